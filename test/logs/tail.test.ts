/** latchkey.v1.RequestLogService/TailRequestLogs over two instances on one database. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { RequestLog, RequestLogFilter } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

type Filter = Partial<Omit<RequestLogFilter, "$typeName" | "$unknown">>;

let one: TestServer;
let two: TestServer;
before(async () => {
  one = await startServer();
  two = await startServer({ databaseUrl: one.databaseUrl });
});
after(() => Promise.all([one.close(), two.close()]));

/** What a tail has brought so far. */
interface Tail {
  readonly logs: RequestLog[];
  skipped: bigint;
  /** Resolves with the error that it ended with. */
  readonly ended: Promise<ConnectError>;
  stop(): Promise<void>;
}
const open: Tail[] = [];
afterEach(() => Promise.all(open.splice(0).map((tail) => tail.stop())));

/** Opens a tail and resolves when its first message has come. Rejects where it is refused. */
async function tail(filter: Filter, clients: Clients = one.asStaff, requestId = "a-tail"): Promise<Tail> {
  const controller = new AbortController();
  const stream = clients.logs
    .tailRequestLogs({ filter }, { signal: controller.signal, headers: { "x-request-id": requestId } })
    [Symbol.asyncIterator]();
  const first = await stream.next();
  assert.deepEqual([first.value?.requestLogs, first.value?.skipped], [[], 0n]);
  const opened: Tail = {
    logs: [],
    skipped: 0n,
    ended: read().then(() => assert.fail("it ended by itself"), ConnectError.from),
    async stop() {
      controller.abort();
      await opened.ended;
    },
  };
  async function read() {
    for (;;) {
      const { value, done } = await stream.next();
      if (done) return;
      opened.logs.push(...value.requestLogs);
      opened.skipped += value.skipped;
    }
  }
  open.push(opened);
  return opened;
}

const arrived = ({ logs }: Tail, count: number) =>
  until(
    () => logs.map(({ requestId }) => requestId).sort(),
    (ids) => ids.length >= count,
  );

/** Calls with a request id each. */
async function call(clients: Clients, ids: string[], userId = 1n): Promise<void> {
  for (const id of ids) {
    await clients.users.getUser({ userId }, { headers: { "x-request-id": id } }).catch(() => {});
  }
}

const leases = async () => (await one.sql`SELECT 1 FROM request_log_tails`).length;

test("a tail brings the rows that every instance writes, as the listing has them", async () => {
  const mine = await tail({ method: "GetUser" });
  await call(one.asStaff, ["here-1", "here-2"]);
  await call(two.asStaff, ["there-1", "there-2"]);
  assert.deepEqual(await arrived(mine, 4), ["here-1", "here-2", "there-1", "there-2"]);
  assert.equal(new Set(mine.logs.map(({ instanceId }) => instanceId)).size, 2);
  const { requestLogs } = await one.asStaff.logs.listRequestLogs({ filter: { method: "GetUser" } });
  const byId = (a: RequestLog, b: RequestLog) => a.id.localeCompare(b.id);
  assert.deepEqual(mine.logs.toSorted(byId), requestLogs.toSorted(byId));
  assert.equal(mine.skipped, 0n);
});

test("tails of one instance each have their own filter, and all the rows that it lets through", async () => {
  const ada = await createUserAndKey(one.asStaff, "ada");
  const all = await tail({ method: "GetUser" });
  const failed = await tail({ method: "GetUser", errorText: "USER 424242" });
  const other = await tail({ method: "GetUser" }, two.asStaff);
  const adas = await tail({ method: "GetUser", apiKeyId: ada.apiKeyId, peerAddress: "127.0.0.0/8" });
  const none = await tail({ method: "GetUser", protocol: "grpc" });
  const clients = one.as(ada.token);
  await call(clients, ["a-1"], ada.userId);
  await call(one.asStaff, ["a-2"], 424_242n);
  await call(two.as(ada.token), ["a-3"], 424_242n);
  assert.deepEqual(await arrived(all, 3), ["a-1", "a-2", "a-3"]);
  assert.deepEqual(await arrived(other, 3), ["a-1", "a-2", "a-3"]);
  assert.deepEqual(await arrived(failed, 2), ["a-2", "a-3"]);
  assert.deepEqual(await arrived(adas, 2), ["a-1", "a-3"]);
  assert.deepEqual(none.logs, []);
});

test("a user's tail brings the rows of that user alone", async () => {
  const bob = await createUserAndKey(one.asStaff, "bob");
  const carol = await createUserAndKey(one.asStaff, "carol");
  const asBob = one.as(bob.token);
  const everything = await tail({}, asBob);
  const ofCarolsKey = await tail({ apiKeyId: carol.apiKeyId }, asBob);
  const staffs = await tail({ method: "GetUser" });
  await call(one.as(carol.token), ["carol-1"]);
  await call(one.asStaff, ["staff-1"]);
  await call(asBob, ["bob-1"]);
  assert.deepEqual(await arrived(everything, 1), ["bob-1"]);
  assert.deepEqual(await arrived(staffs, 3), ["bob-1", "carol-1", "staff-1"]);
  assert.deepEqual(ofCarolsKey.logs, []);
  await assert.rejects(tail({ userId: carol.userId }, asBob), { code: Code.PermissionDenied });
  await assert.rejects(tail({}, clientsOf(connectTransport(one.url, undefined))), {
    code: Code.Unauthenticated,
  });
});

for (const [what, filter, message] of [
  ["a start time", { startTime: timestampNow() }, /start_time and end_time must be unset/],
  ["an end time", { endTime: timestampNow() }, /start_time and end_time must be unset/],
  ["a filter that the listing refuses", { protocol: "smtp" }, /protocol/],
] as const) {
  test(`TailRequestLogs refuses ${what}`, async () => {
    await assert.rejects(tail(filter), { code: Code.InvalidArgument, rawMessage: message });
  });
}

test("batches leave their keys only while somebody tails, and a tail is logged when it ends", async () => {
  await until(leases, (count) => count === 0);
  await until(
    async () => (await one.sql`SELECT 1 FROM request_log_tail`).length,
    (count) => count === 0,
  );
  await call(two.asStaff, ["unseen-1"]);
  await until(
    async () => (await one.sql`SELECT 1 FROM request_logs WHERE request_id = 'unseen-1'`).length,
    (count) => count === 1,
  );
  assert.equal((await one.sql`SELECT 1 FROM request_log_tail`).length, 0);

  const seen = await tail({ method: "GetUser" }, one.asStaff, "a-tail-that-ends");
  assert.equal(await leases(), 1);
  await call(two.asStaff, ["seen-1"]);
  await arrived(seen, 1);
  assert.ok((await one.sql`SELECT 1 FROM request_log_tail`).length > 0);
  await seen.stop();
  await until(leases, (count) => count === 0);
  await until(
    async () => (await one.sql`SELECT 1 FROM request_log_tail`).length,
    (count) => count === 0,
  );
  const [row] = await until(
    async () => await one.sql`SELECT method, code FROM request_logs WHERE request_id = 'a-tail-that-ends'`,
    (rows) => rows.length === 1,
  );
  assert.deepEqual(row, { method: "TailRequestLogs", code: Code.Canceled });
});

test("a batch that began before the first tail and is committed after it delays the first message", async (t) => {
  await until(leases, (count) => count === 0);
  const dora = await createUserAndKey(one.asStaff, "dora");
  const counted = async () =>
    (await one.sql`SELECT request_count::int AS n FROM api_key_usage WHERE api_key_id = ${dora.apiKeyId}`)[0]
      ?.n;
  const release = Promise.withResolvers<void>();
  t.after(() => release.resolve());
  const locked = Promise.withResolvers<void>();
  const holder = one.sql.begin(async (tx) => {
    await tx`SELECT FROM api_key_usage WHERE api_key_id = ${dora.apiKeyId} FOR UPDATE`;
    locked.resolve();
    await release.promise;
  });
  await locked.promise;
  // Its batch waits for the row of the key, long after it looked for tails.
  await call(two.as(dora.token), ["held-1"]);
  await until(
    async () =>
      (
        await one.sql`SELECT 1 FROM pg_stat_activity
          WHERE application_name = 'latchkey usage' AND wait_event_type = 'Lock' AND datname = current_database()`
      ).length,
    (count) => count === 1,
  );
  let began = false;
  const opening = tail({ apiKeyId: dora.apiKeyId }).then((opened) => {
    began = true;
    return opened;
  });
  // It waits for that writer: it holds the lease and looks at locks again and again.
  await until(leases, (count) => count === 1);
  await until(
    async () =>
      (
        await one.sql`SELECT 1 FROM pg_stat_activity WHERE application_name = 'latchkey tail'
          AND query LIKE '%pg_locks%' AND datname = current_database()`
      ).length,
    (count) => count === 1,
  );
  assert.equal(began, false);
  assert.equal(await counted(), 0);
  release.resolve();
  await holder;
  const opened = await opening;
  // Committed before the first message: the listing has it. What is committed from then on comes here.
  assert.equal(await counted(), 1);
  await call(two.as(dora.token), ["after-1"]);
  assert.deepEqual(await arrived(opened, 1), ["after-1"]);
});

test("a tail ends with its key, and with its user's being staff", async () => {
  const eve = await createUserAndKey(one.asStaff, "eve");
  const { ended } = await tail({}, one.as(eve.token));
  await two.asStaff.keys.revokeApiKey({ id: eve.apiKeyId });
  assert.equal((await ended).code, Code.Unauthenticated);

  const fay = await createUserAndKey(one.asStaff, "fay");
  await one.sql`UPDATE users SET is_staff = true WHERE id = ${String(fay.userId)}`;
  const everyones = await until(
    () => tail({ userId: 1n }, one.as(fay.token)).catch(ConnectError.from),
    (opened) => !(opened instanceof ConnectError),
  );
  await one.sql`UPDATE users SET is_staff = false WHERE id = ${String(fay.userId)}`;
  assert.equal((await (everyones as Tail).ended).code, Code.PermissionDenied);
});

test("a server that stops ends its tails at once and leaves no lease", async (t) => {
  await until(leases, (count) => count === 0);
  const three = await startServer({ databaseUrl: one.databaseUrl });
  t.after(() => three.close());
  const { ended } = await tail({}, three.asStaff);
  assert.equal(await leases(), 1);
  await three.close();
  const error = await ended;
  // Not the end that a stop makes of RPCs that do not finish in time.
  assert.deepEqual([error.code, error.rawMessage], [Code.Unavailable, "the server is stopping: call again"]);
  assert.equal(await leases(), 0);
});
