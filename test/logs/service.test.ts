/** latchkey.v1.RequestLogService over RPC: what each filter finds, who sees what, and how it is paged. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { v7 as uuidv7 } from "uuid";
import type { RequestLog, RequestLogFilter } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { CredentialKind, DenialReason } from "../../src/gen/latchkey/v1/verdict_pb.js";
import { packHeld } from "../harness/packed.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { callOf } from "../usage/batches.ts";

type Filter = Partial<Omit<RequestLogFilter, "$typeName" | "$unknown">>;
type Listing = Filter & { pageSize?: number; pageToken?: string };

/** The request for a page of the rows that a filter lets through. */
const request = ({ pageSize = 0, pageToken = "", ...filter }: Listing) => ({ filter, pageSize, pageToken });

/** A day that has a partition and is not swept: rows put there stay where they are. */
const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);

let latchkey: TestServer;
let staff: Clients;
let ada: { userId: bigint; apiKeyId: string; token: string };
let bob: typeof ada;
before(async () => {
  latchkey = await startServer();
  staff = latchkey.asStaff;
  ada = await createUserAndKey(staff, "ada");
  bob = await createUserAndKey(staff, "bob");
});
after(() => latchkey.close());

/** Rows put where no server wrote any: of a service of this name, a millisecond apart, two at each time. */
async function insertRows(service: string, count: number, start = new Date(`${tomorrow}T03:04:05.000Z`)) {
  await latchkey.sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    SELECT ${start.toISOString()}::timestamptz + (n / 2) * interval '1 millisecond', gen_random_uuid(), ${service},
      'Method' || n, 'grpc', 0, 'none', 1, 'r' || n, gen_random_uuid()
    FROM generate_series(0, ${count - 1}::int) n`;
}

const list = async (filter: Filter, clients = staff) =>
  (await clients.logs.listRequestLogs(request(filter))).requestLogs;

/** Waits until so many rows match. */
const rows = (filter: Filter, count: number, clients = staff) =>
  until(
    () => list(filter, clients),
    (found) => found.length >= count,
  );

test("a row tells what was called, by whom, from where, and how it ended", async () => {
  const startedAt = Date.now();
  const requestId = "described-0001";
  const headers = { "x-request-id": requestId, "user-agent": "a test/1.0" };
  await latchkey.as(ada.token).users.getUser({ userId: ada.userId }, { headers });
  const [row] = await rows({ apiKeyId: ada.apiKeyId, method: "GetUser" }, 1);
  assert.ok(row?.time && row.duration);
  const { id, time, duration, requestBytes, responseBytes, instanceId, $typeName: _, ...rest } = row;
  for (const uuid of [id, instanceId]) assert.match(uuid, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  const at = timestampDate(time).getTime();
  assert.ok(at >= startedAt && at <= Date.now());
  assert.ok(duration.seconds < 60n && duration.nanos > 0);
  assert.ok(requestBytes > 0n && responseBytes > 0n);
  assert.deepEqual(rest, {
    service: "api.users.UserService",
    method: "GetUser",
    protocol: "connect",
    code: "ok",
    denialReason: DenialReason.UNSPECIFIED,
    userId: ada.userId,
    apiKeyId: ada.apiKeyId,
    credentialKind: CredentialKind.API_KEY,
    peerAddress: "127.0.0.1",
    userAgent: "a test/1.0",
    requestId,
    errorMessage: "",
    traceId: "",
  });
  await assert.rejects(latchkey.as(ada.token).users.getUser({ userId: 999_999n }), { code: Code.NotFound });
  const [failed] = await rows({ apiKeyId: ada.apiKeyId, code: "not_found" }, 1);
  assert.match(failed?.errorMessage ?? "", /999999/);
});

test("each filter finds its rows and no other, alone and together", async () => {
  const marked = `filters-${process.pid}`;
  const headers = { "user-agent": marked };
  const { users } = latchkey.as(ada.token);
  await users.getUser({ userId: ada.userId }, { headers });
  await assert.rejects(users.getUser({ userId: 999_999n }, { headers }), { code: Code.NotFound });
  await assert.rejects(users.deleteUser({ userId: 999_999n }, { headers }), { code: Code.PermissionDenied });
  await latchkey.as(ada.token).keys.listApiKeys({}, { headers });
  const anonymous = clientsOf(connectTransport(latchkey.url, undefined));
  await assert.rejects(anonymous.users.updateProfile({}, { headers }), { code: Code.Unauthenticated });
  await latchkey.as(bob.token).users.getUser({ userId: bob.userId }, { headers });
  await until(
    async () => (await list({})).filter(({ userAgent }) => userAgent === marked).length,
    (count) => count === 6,
  );

  for (const [filter, expected] of [
    [{ userId: ada.userId }, ["ListApiKeys", "DeleteUser", "GetUser", "GetUser"]],
    [{ userId: bob.userId }, ["GetUser"]],
    [{ apiKeyId: ada.apiKeyId.toUpperCase() }, ["ListApiKeys", "DeleteUser", "GetUser", "GetUser"]],
    [{ apiKeyId: "01890a5d-ac96-774b-bcce-b302099a8057" }, []],
    [{ service: "latchkey.v1.ApiKeyService" }, ["ListApiKeys"]],
    [{ service: "no.such.Service" }, []],
    [{ method: "DeleteUser" }, ["DeleteUser"]],
    [{ method: "deleteuser" }, []],
    [{ code: "ok" }, ["GetUser", "ListApiKeys", "GetUser"]],
    [{ code: "not_found" }, ["GetUser"]],
    [{ code: "data_loss" }, []],
    [{ denialReason: DenialReason.MISSING }, ["UpdateProfile"]],
    [{ denialReason: DenialReason.STAFF_REQUIRED }, ["DeleteUser"]],
    [{ denialReason: DenialReason.REVOKED }, []],
    [{ userId: ada.userId, method: "GetUser", code: "ok" }, ["GetUser"]],
    [{ userId: bob.userId, apiKeyId: ada.apiKeyId }, []],
  ] as const) {
    const found = (await list(filter)).filter(({ userAgent }) => userAgent === marked);
    assert.deepEqual(
      found.map(({ method }) => method),
      expected,
      JSON.stringify(filter, (_, value) => (typeof value === "bigint" ? String(value) : value)),
    );
  }
});

test("rows are found by how long they took, over what protocol, from where, with what error and in what trace", async () => {
  const service = "found.By";
  await latchkey.sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id,
      instance_id, peer_address, error_message, trace_id)
    VALUES
      (${`${tomorrow}T00:00:03Z`}, gen_random_uuid(), ${service}, 'C', 'verify', 0, 'none', 1500, 'r', gen_random_uuid(), '192.0.2.7', NULL, ${"a1".repeat(16)}),
      (${`${tomorrow}T00:00:02Z`}, gen_random_uuid(), ${service}, 'B', 'grpc-web', 5, 'none', 1501, 'r', gen_random_uuid(), '2001:db8::7', 'No such Thing_1', ${"b2".repeat(16)}),
      (${`${tomorrow}T00:00:01Z`}, gen_random_uuid(), ${service}, 'A', 'grpc', 13, 'none', 2000000, 'r', gen_random_uuid(), NULL, '100% broken', NULL)`;
  const nanos = (ns: number) => ({ seconds: 0n, nanos: ns }) as RequestLogFilter["minDuration"];
  for (const [filter, expected] of [
    [{}, "CBA"],
    [{ minDuration: nanos(1_500_001) }, "BA"],
    [{ minDuration: nanos(1_500_000), maxDuration: nanos(1_500_999) }, "C"],
    [{ maxDuration: nanos(1_501_000) }, "CB"],
    [{ maxDuration: nanos(0) }, ""],
    [{ minDuration: { seconds: 315_576_000_000n, nanos: 0 } as RequestLogFilter["minDuration"] }, ""],
    [{ protocol: "verify" }, "C"],
    [{ protocol: "grpc" }, "A"],
    [{ peerAddress: "192.0.2.7" }, "C"],
    [{ peerAddress: "::ffff:192.0.2.0/120" }, "C"],
    [{ peerAddress: "2001:db8::/32" }, "B"],
    [{ peerAddress: "::/0" }, "B"],
    [{ peerAddress: "10.0.0.0/8" }, ""],
    [{ errorText: "SUCH thing" }, "B"],
    [{ errorText: "%" }, "A"],
    [{ errorText: "thing-1" }, ""],
    [{ errorText: "such", code: "ok" }, ""],
    [{ errorText: "b", code: "internal", minDuration: nanos(1) }, "A"],
    [{ traceId: "a1".repeat(16) }, "C"],
    [{ traceId: "B2".repeat(16), protocol: "grpc-web" }, "B"],
    [{ traceId: "0".repeat(32) }, ""],
  ] as const) {
    const found = await list({ service, ...filter } as Filter);
    assert.equal(found.map(({ method }) => method).join(""), expected, Object.entries(filter).join());
  }
});

test("times are told and compared to the microsecond", async () => {
  const service = "micro.Seconds";
  await latchkey.sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    SELECT ${`${tomorrow}T03:04:05.999998Z`}::text::timestamptz + n * interval '1 microsecond', gen_random_uuid(), ${service},
      'M' || n, 'grpc', 0, 'none', 1, 'r', gen_random_uuid() FROM generate_series(0, 3) n`;
  const [newest, ...others] = await list({ service });
  const second = BigInt(Date.parse(`${tomorrow}T03:04:05Z`) / 1000);
  assert.deepEqual([newest?.time?.seconds, newest?.time?.nanos], [second + 1n, 1000]);
  assert.deepEqual(
    others.map(({ time }) => time?.nanos),
    [0, 999_999_000, 999_998_000],
  );
  const at = (seconds: bigint, nanos: number) => ({ seconds, nanos }) as RequestLogFilter["startTime"];
  const methods = async (filter: Filter) => (await list({ service, ...filter })).map(({ method }) => method);
  assert.deepEqual(await methods({ startTime: at(second, 999_999_000) }), ["M3", "M2", "M1"]);
  assert.deepEqual(await methods({ startTime: at(second, 999_999_001) }), ["M3", "M2"]);
  assert.deepEqual(await methods({ endTime: at(second, 999_999_001) }), ["M1", "M0"]);
  assert.deepEqual(await methods({ endTime: at(second, 999_999_000) }), ["M0"]);
});

test("a time range holds its start and not its end, to the nanosecond", async () => {
  const service = "time.Range";
  const start = new Date(`${tomorrow}T03:04:05.000Z`);
  await insertRows(service, 6, start);
  const at = (ms: number, nanos = 0) => {
    const time = timestampFromMs(start.getTime() + ms);
    return { ...time, nanos: time.nanos + nanos };
  };
  const methods = async (filter: Filter) =>
    (await list({ service, ...filter })).map(({ method }) => method).sort();
  assert.deepEqual(await methods({ startTime: at(1) }), ["Method2", "Method3", "Method4", "Method5"]);
  assert.deepEqual(await methods({ endTime: at(1) }), ["Method0", "Method1"]);
  assert.deepEqual(await methods({ startTime: at(1), endTime: at(2) }), ["Method2", "Method3"]);
  assert.deepEqual(await methods({ startTime: at(1), endTime: at(1) }), []);
  assert.deepEqual(await methods({ startTime: at(1, 1) }), ["Method4", "Method5"]);
  assert.deepEqual(await methods({ endTime: at(1, 1) }), ["Method0", "Method1", "Method2", "Method3"]);
  assert.deepEqual(await methods({ endTime: at(1, 999_999) }), ["Method0", "Method1", "Method2", "Method3"]);
  const widest = {
    startTime: { seconds: -62_135_596_800n, nanos: 0 },
    endTime: { seconds: 253_402_300_799n, nanos: 999_999_999 },
  };
  assert.equal((await list({ service, ...(widest as Filter) })).length, 6);
});

for (const [what, filter, message] of [
  ["a negative user", { userId: -1n }, /user_id/],
  ["a key id that is no UUID", { apiKeyId: "1" }, /api_key_id/],
  ["a key id with NUL", { apiKeyId: "\0" }, /api_key_id/],
  ["a service with NUL", { service: "a\0b" }, /service/],
  ["a method with NUL", { method: "a\0b" }, /method/],
  ["an unknown code", { code: "NOT_FOUND" }, /code/],
  ["a code that every object has", { code: "constructor" }, /code/],
  ["a code with NUL", { code: "\0" }, /code/],
  ["a number for a code", { code: "5" }, /code/],
  ["an unknown denial reason", { denialReason: 99 as DenialReason }, /denial_reason/],
  ["a negative denial reason", { denialReason: -1 as DenialReason }, /denial_reason/],
  ["a start past the year 9999", { startTime: { seconds: 253_402_300_800n, nanos: 0 } }, /start_time/],
  ["an end before the year 1", { endTime: { seconds: -62_135_596_801n, nanos: 0 } }, /end_time/],
  ["a time of 2^63 - 1 seconds", { endTime: { seconds: 2n ** 63n - 1n, nanos: 0 } }, /end_time/],
  ["negative nanos", { startTime: { seconds: 0n, nanos: -1 } }, /start_time/],
  [
    "a range that ends before it starts",
    { startTime: { seconds: 2n, nanos: 0 }, endTime: { seconds: 1n, nanos: 0 } },
    /end_time must not be before start_time/,
  ],
  ["a negative duration", { minDuration: { seconds: -1n, nanos: 0 } }, /min_duration must not be negative/],
  ["negative nanos of a duration", { maxDuration: { seconds: 0n, nanos: -1 } }, /max_duration/],
  ["nanos past a second", { maxDuration: { seconds: 0n, nanos: 1_000_000_000 } }, /max_duration/],
  ["a duration of 2^63 - 1 seconds", { minDuration: { seconds: 2n ** 63n - 1n, nanos: 0 } }, /min_duration/],
  [
    "durations of which the most is less than the least",
    { minDuration: { seconds: 1n, nanos: 1 }, maxDuration: { seconds: 1n, nanos: 0 } },
    /max_duration must not be less than min_duration/,
  ],
  ["an unknown protocol", { protocol: "http" }, /protocol "http" is unknown: grpc/],
  ["a protocol with NUL", { protocol: "grpc\0" }, /protocol/],
  ["an address that is none", { peerAddress: "example.com" }, /peer_address/],
  ["an address with too many bits", { peerAddress: "192.0.2.0/33" }, /peer_address/],
  ["an address in short", { peerAddress: "127.1" }, /peer_address/],
  ["an error text of 201 characters", { errorText: "x".repeat(201) }, /error_text/],
  ["an error text with NUL", { errorText: "\0" }, /error_text/],
  ["a trace that is none", { traceId: "00-abc-01" }, /trace_id must be 32 hexadecimal digits/],
  ["a negative page size", { pageSize: -1 }, /page_size/],
  ["a page token of nobody", { pageToken: "garbage" }, /page_token/],
] as const) {
  test(`ListRequestLogs refuses ${what}`, async () => {
    await assert.rejects(staff.logs.listRequestLogs(request(filter as Listing)), {
      code: Code.InvalidArgument,
      rawMessage: message,
    });
  });
}

test("a user sees the rows of its own alone, whatever it filters by; another's are denied by name", async () => {
  const { users } = latchkey.as(ada.token);
  await users.getUser({ userId: ada.userId });
  await latchkey.as(bob.token).users.getUser({ userId: ada.userId });
  await rows({ userId: bob.userId }, 1);
  await rows({ userId: ada.userId }, 1);
  const asAda = latchkey.as(ada.token);
  const mine = await list({}, asAda);
  assert.ok(mine.length > 0 && mine.every(({ userId }) => userId === ada.userId));
  assert.deepEqual(await list({ apiKeyId: bob.apiKeyId }, asAda), []);
  assert.ok((await list({ userId: ada.userId }, asAda)).length > 0);
  await assert.rejects(list({ userId: bob.userId }, asAda), { code: Code.PermissionDenied });
  // Rows of nobody are of no user's own.
  await assert.rejects(clientsOf(connectTransport(latchkey.url, undefined)).logs.listRequestLogs({}), {
    code: Code.Unauthenticated,
  });
  await rows({ denialReason: DenialReason.MISSING }, 1);
  assert.deepEqual(await list({ denialReason: DenialReason.MISSING }, asAda), []);
  assert.ok((await list({})).some(({ userId }) => userId === bob.userId));
});

test("what a key was refused with after its end is in its own user's log and names no principal it was not", async () => {
  const carol = await createUserAndKey(staff, "carol");
  await staff.keys.revokeApiKey({ id: carol.apiKeyId });
  await assert.rejects(latchkey.as(carol.token).users.getUser({ userId: 1n }), {
    code: Code.Unauthenticated,
  });
  const [row] = await rows({ userId: carol.userId, denialReason: DenialReason.REVOKED }, 1);
  assert.equal(row?.apiKeyId, carol.apiKeyId);
  assert.equal(row.code, "unauthenticated");
  await assert.rejects(latchkey.as(`lk_${"0".repeat(38)}`).users.getUser({ userId: 1n }), {
    code: Code.Unauthenticated,
  });
  const [malformed] = await rows({ denialReason: DenialReason.MALFORMED }, 1);
  assert.deepEqual([malformed?.userId, malformed?.apiKeyId], [0n, ""]);
});

test("pages of every size hold each row once, newest first, though several began in the same millisecond", async () => {
  const service = "pages.Of";
  await insertRows(service, 11);
  const all = await list({ service });
  assert.equal(all.length, 11);
  const order = ({ time, id }: RequestLog) => `${time && timestampDate(time).toISOString()} ${id}`;
  assert.deepEqual(all.map(order), all.map(order).sort().reverse());
  for (const pageSize of [1, 2, 3, 5, 10, 11, 12]) {
    const walked: string[] = [];
    let pageToken = "";
    let pages = 0;
    do {
      const page = await staff.logs.listRequestLogs(request({ service, pageSize, pageToken }));
      assert.ok(page.requestLogs.length > 0 && page.requestLogs.length <= pageSize);
      walked.push(...page.requestLogs.map(({ id }) => id));
      pageToken = page.nextPageToken;
      pages++;
    } while (pageToken !== "");
    assert.deepEqual(
      walked,
      all.map(({ id }) => id),
      `pages of ${pageSize}`,
    );
    assert.equal(pages, Math.ceil(11 / pageSize));
  }
});

test("a page holds 100 rows unless asked, and never more than 1,000", async () => {
  const service = "many.Rows";
  await insertRows(service, 1001);
  const sizes = [];
  for (const pageSize of [0, 1000, 1001, 2 ** 31 - 1]) {
    const { requestLogs, nextPageToken } = await staff.logs.listRequestLogs(request({ service, pageSize }));
    assert.notEqual(nextPageToken, "");
    sizes.push(requestLogs.length);
  }
  assert.deepEqual(sizes, [100, 1000, 1000, 1000]);
});

test("a page token of other filters, of another listing or made by hand is refused", async () => {
  const service = "tokens.Of";
  await insertRows(service, 3);
  const { nextPageToken } = await staff.logs.listRequestLogs(request({ service, pageSize: 1 }));
  const ofKeys = await staff.keys.listApiKeys({ pageSize: 1 });
  assert.notEqual(ofKeys.nextPageToken, "");
  const [filters = "", time = "", id = ""]: string[] = JSON.parse(
    Buffer.from(nextPageToken, "base64url").toString(),
  );
  const crafted = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");
  assert.equal(crafted(filters, time, id), nextPageToken);
  for (const [what, listing] of [
    ["everyone's", { pageToken: nextPageToken }],
    ["another service's", { service: "other.Service", pageToken: nextPageToken }],
    ["another code's", { service, code: "ok", pageToken: nextPageToken }],
    ["another range's", { service, endTime: timestampFromDate(new Date()), pageToken: nextPageToken }],
    ["the keys'", { pageToken: ofKeys.nextPageToken }],
    ["cut", { service, pageToken: nextPageToken.slice(0, -4) }],
    ["without a cursor", { service, pageToken: crafted(filters) }],
    ["without an id", { service, pageToken: crafted(filters, time) }],
    ["of a day that is none", { service, pageToken: crafted(filters, "2026-02-30T00:00:00.000000Z", id) }],
    ["of the year 0", { service, pageToken: crafted(filters, "0000-01-01T00:00:00.000000Z", id) }],
    ["of a time that is none", { service, pageToken: crafted(filters, "yesterday", id) }],
    [
      "of a time that Postgres has not",
      { service, pageToken: crafted(filters, "+275760-09-13T00:00:00.000Z", id) },
    ],
    ["of an id that is none", { service, pageToken: crafted(filters, time, "' OR 1=1") }],
    ["of numbers", { service, pageToken: crafted(filters, 1, 2) }],
  ] as const) {
    await assert.rejects(
      staff.logs.listRequestLogs(request(listing)),
      { code: Code.InvalidArgument, rawMessage: /page_token/ },
      what,
    );
  }
});

test("only what failed is listed where only errors are asked for, whoever asks", async () => {
  const service = "failing.Service";
  await insertRows(service, 20);
  await latchkey.sql`
    UPDATE request_logs SET code = CASE WHEN method IN ('Method3', 'Method12') THEN 5 ELSE 16 END,
      error_message = 'went wrong', user_id = ${String(ada.userId)}, api_key_id = ${ada.apiKeyId}
    WHERE service = ${service} AND method IN ('Method3', 'Method7', 'Method12')`;
  const methodsOf = (found: RequestLog[]) => found.map(({ method }) => method);
  const failed = ["Method12", "Method7", "Method3"];
  assert.deepEqual(methodsOf(await list({ service, errorsOnly: true })), failed);
  assert.deepEqual(methodsOf(await list({ apiKeyId: ada.apiKeyId, service, errorsOnly: true })), failed);
  assert.deepEqual(methodsOf(await list({ service, errorsOnly: true, code: "not_found" })), [
    "Method12",
    "Method3",
  ]);
  assert.deepEqual(methodsOf(await list({ service, errorsOnly: true, code: "ok" })), []);
  const everywhere = await list({
    errorsOnly: true,
    startTime: timestampFromDate(new Date(`${tomorrow}T00:00:00Z`)),
  });
  assert.ok(everywhere.length >= 3 && everywhere.every(({ code }) => code !== "ok"));
  assert.equal((await list({ service, errorsOnly: false, pageSize: 100 } as Filter)).length, 20);
});

test("calls of the console itself are left out where that is asked for", async () => {
  const service = "consoled.Service";
  await insertRows(service, 4);
  await latchkey.sql`
    UPDATE request_logs SET credential_kind = 'session' WHERE service = ${service} AND method <> 'Method2'`;
  const methodsOf = (found: RequestLog[]) => found.map(({ method }) => method);
  assert.deepEqual(methodsOf(await list({ service, withoutSessions: true })), ["Method2"]);
  assert.equal((await list({ service })).length, 4);
});

test("a row is had by its id, by whom it is of and by staff", async () => {
  const headers = { "x-request-id": "had-by-id-0001" };
  await latchkey.as(ada.token).users.getUser({ userId: ada.userId }, { headers });
  const listed = await until(
    async () =>
      (await list({ apiKeyId: ada.apiKeyId })).find(({ requestId }) => requestId === "had-by-id-0001"),
    (found) => found !== undefined,
  );
  const id = listed?.id ?? "";
  for (const clients of [staff, latchkey.as(ada.token)]) {
    assert.deepEqual((await clients.logs.getRequestLog({ id })).requestLog, listed);
  }
  const notFound = { code: Code.NotFound };
  await assert.rejects(latchkey.as(bob.token).logs.getRequestLog({ id }), notFound);
  await assert.rejects(staff.logs.getRequestLog({ id: "01890a5d-ac96-774b-bcce-b302099a8057" }), notFound);
  for (const bad of ["", "x", "5b1b3a1e-6f0e-4d0c-9a36-0b6d1f5a8c11"]) {
    await assert.rejects(staff.logs.getRequestLog({ id: bad }), { code: Code.InvalidArgument });
  }
  // Of the last day that a UUID can name.
  await assert.rejects(staff.logs.getRequestLog({ id: "ffffffff-ffff-7fff-bfff-ffffffffffff" }), notFound);
});

test("while rows are packed, a listing says that it is incomplete, and a row that is not there that it may come", async (t) => {
  const calls = [1, 2, 3].map(() =>
    callOf(ada.apiKeyId, { method: { service: "packed.Service", name: "Get" } }, ada.userId),
  );
  const letGo = await packHeld(latchkey.databaseUrl, calls);
  t.after(letGo);
  for (const clients of [staff, clientsOf(connectTransport(latchkey.url, ada.token))]) {
    const { incomplete, requestLogs } = await clients.logs.listRequestLogs(
      request({ service: "packed.Service" }),
    );
    assert.deepEqual([incomplete, requestLogs.length], [true, 0]);
  }
  const id = calls[0]?.id ?? "";
  await assert.rejects(staff.logs.getRequestLog({ id }), /not found: rows are still to come, try again/);
  await letGo();
  assert.equal((await rows({ service: "packed.Service" }, 3)).length, 3);
  assert.equal((await staff.logs.listRequestLogs(request({}))).incomplete, false);
  assert.equal((await staff.logs.getRequestLog({ id })).requestLog?.id, id);
  await assert.rejects(staff.logs.getRequestLog({ id: uuidv7() }), /not found/);
});
