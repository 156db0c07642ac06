/** latchkey.v1.RequestLogService/ExportRequestLogs: a file that holds what the listing holds. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Message, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  ExportFormat,
  type ExportRequestLogsRequest,
  type RequestLog,
  type RequestLogFilter,
  RequestLogSchema,
} from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { CredentialKind, DenialReason } from "../../src/gen/latchkey/v1/verdict_pb.js";
import { encoderOf, exportRows } from "../../src/logs/export.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

type Fields<M extends Message> = Partial<Omit<M, "$typeName" | "$unknown" | "filter">>;
type Asked = Fields<ExportRequestLogsRequest> & { filter?: Fields<RequestLogFilter> };

const service = "exported.Service";
const rowCount = 2_350;
/** What a spreadsheet, or a reader of CSV, could stumble over. */
const texts = [
  "plain",
  "=1+1",
  "+1",
  "-1",
  "@x",
  "\tx",
  "\rx",
  'a "quoted", text',
  "two\r\nlines",
  "Ünïcode ☃",
  "",
];

/** A day that has a partition and is not swept: rows put there stay where they are. */
const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
  await latchkey.sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id, instance_id,
      error_message, trace_id)
    SELECT ${`${tomorrow}T03:04:05.000001Z`}::text::timestamptz + n / 2 * interval '1 microsecond', gen_random_uuid(), ${service},
      'Method' || n % 3, 'grpc', CASE WHEN n % 2 = 0 THEN 0 ELSE 16 END, CASE WHEN n % 2 = 1 THEN 'REVOKED' END,
      CASE WHEN n % 5 > 0 THEN 77 END, CASE WHEN n % 5 > 0 THEN gen_random_uuid() END, 'api_key', n * 1000, n, 2 * n,
      CASE WHEN n % 7 > 0 THEN '2001:db8::1'::inet END, t.texts[1 + n % ${texts.length}::int], 'r' || n, gen_random_uuid(),
      CASE WHEN n % 2 = 1 THEN t.texts[1 + n % ${texts.length}::int] END, CASE WHEN n % 3 = 0 THEN 'abc' END
    FROM generate_series(0, ${rowCount - 1}::int) n, (SELECT ARRAY(SELECT jsonb_array_elements_text(${latchkey.sql.json(texts)})) AS texts) t`;
});
after(() => latchkey.close());

async function exported(asked: Asked, clients: Clients = latchkey.asStaff) {
  const pieces: Uint8Array[] = [];
  for await (const { data } of clients.logs.exportRequestLogs(asked)) pieces.push(data);
  return { text: Buffer.concat(pieces).toString(), pieces };
}

async function listed(filter: Fields<RequestLogFilter>, clients: Clients = latchkey.asStaff) {
  const rows: RequestLog[] = [];
  let pageToken = "";
  do {
    const page = await clients.logs.listRequestLogs({ filter, pageSize: 1000, pageToken });
    rows.push(...page.requestLogs);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return rows;
}

/** Reads RFC 4180, to the letter: quotes where they must be, lines that end with CR LF. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y;
  while (field.lastIndex < text.length) {
    const at = field.lastIndex;
    const [, quoted, bare, end] = field.exec(text) ?? assert.fail(`no CSV: ${text.slice(at, at + 80)}`);
    row.push(quoted?.replaceAll('""', '"') ?? bare ?? "");
    if (end === ",") continue;
    rows.push(row);
    row = [];
  }
  return rows;
}

const harmless = (text: string) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);

function csvFields(log: RequestLog): Record<string, string> {
  const { time, duration } = log;
  assert.ok(time && duration);
  const seconds = new Date(Number(time.seconds) * 1000).toISOString().slice(0, 19);
  const micros = (nanos: number) => String(nanos / 1000).padStart(6, "0");
  return {
    id: log.id,
    time: `${seconds}.${micros(time.nanos)}Z`,
    service: log.service,
    method: log.method,
    protocol: log.protocol,
    code: log.code,
    denial_reason: log.denialReason === 0 ? "" : (DenialReason[log.denialReason] ?? ""),
    user_id: log.userId === 0n ? "" : String(log.userId),
    api_key_id: log.apiKeyId,
    credential_kind: CredentialKind[log.credentialKind] ?? "",
    duration: `${duration.seconds}.${micros(duration.nanos)}`,
    request_bytes: String(log.requestBytes),
    response_bytes: String(log.responseBytes),
    peer_address: log.peerAddress,
    user_agent: harmless(log.userAgent),
    request_id: log.requestId,
    instance_id: log.instanceId,
    error_message: harmless(log.errorMessage),
    trace_id: log.traceId,
  };
}

test("a CSV file holds the listing row for row, a column a field in the order of the proto, no formula among them", async () => {
  const rows = await listed({ service });
  assert.equal(rows.length, rowCount);
  for (const format of [ExportFormat.CSV, ExportFormat.UNSPECIFIED]) {
    const { text, pieces } = await exported({ filter: { service }, format });
    const [head, ...lines] = parseCsv(text);
    assert.deepEqual(
      head,
      RequestLogSchema.fields.map(({ name }) => name),
    );
    assert.deepEqual(
      lines,
      rows.map((row) => Object.values(csvFields(row))),
    );
    assert.deepEqual(Object.keys(csvFields(rows[0]!)), head);
    // Some kilobytes each: neither a message a row nor all in one.
    assert.ok(pieces.length > 3 && pieces.length < 30, `${pieces.length} messages`);
    for (const piece of pieces.slice(0, -1)) assert.ok(piece.length >= 60_000 && piece.length < 80_000);
  }
});

test("an NDJSON file holds the listing row for row, in protobuf's JSON", async () => {
  const rows = await listed({ service });
  const { text } = await exported({ filter: { service }, format: ExportFormat.NDJSON });
  assert.ok(text.endsWith("\n"));
  assert.deepEqual(
    text
      .slice(0, -1)
      .split("\n")
      .map((line) => JSON.parse(line)),
    rows.map((row) => toJson(RequestLogSchema, row)),
  );
});

test("an export takes the listing's filters, and no more rows than asked for", async () => {
  const format = ExportFormat.NDJSON;
  const filter = { service, code: "unauthenticated", method: "Method1" };
  const rows = await listed(filter);
  assert.ok(rows.length > 300 && rows.length < 500);
  const idsOf = (text: string) =>
    text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line).id);
  const ids = rows.map(({ id }) => id);
  assert.deepEqual(idsOf((await exported({ filter, format })).text), ids);
  for (const limit of [1, 7, rows.length, rows.length + 1]) {
    const { text } = await exported({ filter, format, limit: BigInt(limit) });
    assert.deepEqual(idsOf(text), ids.slice(0, limit), `limit ${limit}`);
  }
  const { text } = await exported({ filter: { service }, format, limit: 1001n });
  assert.equal(idsOf(text).length, 1001);
  assert.equal(
    (await exported({ filter: { service }, format, limit: 2n ** 63n - 1n })).text.split("\n").length,
    rowCount + 1,
  );
});

test("an export of no rows is a line of column names, or nothing", async () => {
  const filter = { service: "no.Service" };
  assert.equal(parseCsv((await exported({ filter, format: ExportFormat.CSV })).text).length, 1);
  assert.equal((await exported({ filter, format: ExportFormat.NDJSON })).text, "");
});

for (const [what, asked, message] of [
  ["an unknown format", { format: 9 as ExportFormat }, /format 9/],
  ["a negative limit", { limit: -1n }, /limit/],
  ["a filter that the listing refuses", { filter: { peerAddress: "nowhere" } }, /peer_address/],
] as const) {
  test(`ExportRequestLogs refuses ${what}`, async () => {
    await assert.rejects(exported(asked), { code: Code.InvalidArgument, rawMessage: message });
  });
}

test("a user exports the rows of its own alone, another's are denied by name, and anonymous callers get none", async () => {
  const ada = await createUserAndKey(latchkey.asStaff, "ada");
  const asAda = latchkey.as(ada.token);
  await asAda.users.getUser({ userId: ada.userId });
  const userIds = async () =>
    (await exported({ format: ExportFormat.NDJSON }, asAda)).text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line).userId);
  const found = await until(userIds, (ids) => ids.length > 0);
  assert.ok(found.every((id) => id === String(ada.userId)));
  await assert.rejects(exported({ filter: { userId: ada.userId + 1n } }, asAda), {
    code: Code.PermissionDenied,
  });
  await assert.rejects(exported({}, clientsOf(connectTransport(latchkey.url, undefined))), {
    code: Code.Unauthenticated,
  });
});

test("an export that finds nothing stops looking when its client goes", async () => {
  const stop = new AbortController();
  const gone = new ConnectError("gone", Code.Canceled);
  let pages = 0;
  const logs = {
    get: async () => undefined,
    async list() {
      if (++pages === 3) stop.abort(gone);
      return { rows: [], next: { time: "2026-01-01T00:00:00.000000Z", id: "" } };
    },
  };
  const options = { encoder: encoderOf(ExportFormat.NDJSON), limit: 0n, signal: stop.signal };
  await assert.rejects(exportRows(logs, {}, options).next(), gone);
  assert.equal(pages, 3);
});

test("an export whose client goes reads no further", async () => {
  await latchkey.sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    SELECT ${`${tomorrow}T00:00:00Z`}::timestamptz + n * interval '1 second', gen_random_uuid(), 'long.Service', 'M', 'grpc', 0,
      'none', 1, repeat('r', 100), gen_random_uuid()
    FROM generate_series(1, 60000) n`;
  const stop = new AbortController();
  const requestId = "export-cut-short";
  const stream = latchkey.asStaff.logs.exportRequestLogs(
    { filter: { service: "long.Service" } },
    { signal: stop.signal, headers: { "x-request-id": requestId } },
  );
  await assert.rejects(
    async () => {
      for await (const _ of stream) stop.abort();
    },
    { code: Code.Canceled },
  );
  const [row] = await until(
    async () =>
      await latchkey.sql`SELECT code, response_bytes::int AS bytes FROM request_logs WHERE request_id = ${requestId}`,
    (rows) => rows.length === 1,
  );
  assert.equal(row?.code, Code.Canceled);
  assert.ok(row.bytes < 60_000 * 200, `${row.bytes} bytes were sent`);
});
