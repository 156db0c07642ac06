/** Pages of the request log against a plain reading of the same rows, under any filter and any page size. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type postgres from "postgres";
import { parseAddressRange } from "../../src/auth/address-range.ts";
import { connect, type Database, database } from "../../src/db/client.ts";
import { matches, type RequestLogFilter } from "../../src/logs/filter.ts";
import type { RequestLogCursor } from "../../src/logs/list-query.ts";
import type { RequestLogRow } from "../../src/logs/row.ts";
import { createRequestLogStore } from "../../src/logs/store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";

let sql: postgres.Sql;
let server: postgres.Sql;
let db: Database;
/** Every row, newest first. */
let all: RequestLogRow[];

const pick = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const keys = [1, 2, 3].map((n) => `00000000-0000-7000-8000-00000000000${n}`);
const traces = ["a", "b"].map((digit) => digit.repeat(32));
/** Microseconds of one millisecond and the next, around midnight: rows share them, and lie in two partitions. */
const timeOf = (us: number) =>
  us < 0
    ? `2031-03-01T23:59:59.99${String(10_000 + us).padStart(4, "0")}Z`
    : `2031-03-02T00:00:00.00${String(us).padStart(4, "0")}Z`;
const times = fc.integer({ min: -1500, max: 1500 }).map(timeOf);
const texts = pick("user 7 was not found", "NOT found: User", "a 100% _x_ \\ case", "Ünïcode É ß", "é", "");

const storedRow = fc.record({
  time: times,
  service: pick("a.A", "a.B", "B.a"),
  method: pick("Get", "get", "List", "List2"),
  protocol: pick("grpc", "grpc-web", "connect", "verify"),
  error: fc.option(fc.tuple(fc.integer({ min: 1, max: 16 }), fc.option(texts)), { freq: 2 }),
  denial: fc.option(pick("MISSING", "EXPIRED"), { freq: 2 }),
  // A key is one user's, for good.
  subject: fc.option(pick([1, keys[0]], [1, keys[1]], [2, keys[2]], [2, null])),
  credential: pick("none", "api_key", "session"),
  durationUs: fc.integer({ min: 0, max: 5 }),
  peer: pick("192.0.2.1", "192.0.3.9", "2001:db8::1", "::1", null),
  trace: fc.option(pick(...traces), { freq: 2 }),
});

const conditions = {
  userId: pick(1n, 2n, 3n),
  apiKeyId: pick(...keys),
  service: pick("a.A", "a.B", "none"),
  method: pick("Get", "List", "none"),
  code: fc.integer({ min: 0, max: 16 }),
  denialReason: pick("MISSING", "EXPIRED", "REVOKED"),
  from: times,
  until: times,
  minDurationUs: fc.bigInt(0n, 6n),
  maxDurationUs: fc.bigInt(0n, 6n),
  protocol: pick("grpc", "verify"),
  peerAddress: pick("192.0.2.0/23", "192.0.2.1", "::/0", "2001:db8::/32", "0.0.0.0/0").map(parseAddressRange),
  errorText: pick("NOT FOUND", "user", "100%", "_x_", "\\", "É", "é", "ß", "7"),
  errorsOnly: fc.constant(true as const),
  withoutSessions: fc.constant(true as const),
  traceId: pick(...traces, "c".repeat(32)),
} satisfies { [F in keyof RequestLogFilter]-?: fc.Arbitrary<RequestLogFilter[F]> };
/** A few conditions, so that rows are left. */
const filters = fc
  .subarray(Object.keys(conditions) as (keyof RequestLogFilter)[], { minLength: 1, maxLength: 3 })
  .chain((fields) => fc.record(Object.fromEntries(fields.map((field) => [field, conditions[field]]))));

before(async () => {
  const url = await createTestDatabase();
  sql = openSql(url);
  server = connect({ url }, { max: 2, purpose: "list", statementTimeoutMs: 10_000 });
  db = database(server);
  await sql`CREATE TABLE request_logs_20310301 PARTITION OF request_logs FOR VALUES FROM ('2031-03-01Z') TO ('2031-03-02Z')`;
  const rows = fc.sample(storedRow, { numRuns: 600, seed: 20_310_301 });
  for (const { error, subject, ...row } of rows) {
    await sql`
      INSERT INTO request_logs (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
        credential_kind, duration_us, peer_address, request_id, instance_id, error_message, trace_id)
      VALUES (${sql.typed(row.time, 25)}::timestamptz, gen_random_uuid(), ${row.service}, ${row.method}, ${row.protocol},
        ${error?.[0] ?? 0}, ${row.denial}, ${subject?.[0] ?? null}, ${subject?.[1] ?? null}, ${row.credential}, ${row.durationUs},
        ${row.peer}, 'r', gen_random_uuid(), ${error?.[1] ?? null}, ${row.trace})`;
  }
  all = (await createRequestLogStore(db).list({}, 1000)).rows;
  assert.equal(all.length, rows.length);
  const order = ({ time, id }: RequestLogRow) => `${time} ${id}`;
  assert.deepEqual(all.map(order), all.map(order).sort().reverse());
});
after(() => Promise.all([sql, server].map((client) => client.end())));

const ids = (rows: RequestLogRow[]) => rows.map(({ id }) => id);
const expectedOf = (filter: RequestLogFilter) => all.filter((row) => matches(row, filter));

async function walk(filter: RequestLogFilter, limit: number, scanBudget: number): Promise<RequestLogRow[]> {
  const store = createRequestLogStore(db, { scanBudget });
  const found: RequestLogRow[] = [];
  let after: RequestLogCursor | undefined;
  do {
    const page = await store.list(filter, limit, after);
    assert.ok(page.rows.length <= limit);
    found.push(...page.rows);
    after = page.next;
  } while (after !== undefined);
  return found;
}

test("under any filter, all pages together hold each row that matches once, in order, however few a page may look at", async () => {
  await fc.assert(
    fc.asyncProperty(filters, pick(7, 40, 1000), pick(20, 150, 20_000), async (filter, limit, scanBudget) => {
      assert.deepEqual(ids(await walk(filter, limit, scanBudget)), ids(expectedOf(filter)));
    }),
    { numRuns: 200 },
  );
});

test("each condition finds in Postgres what it finds in memory, and that is neither nothing nor all", async () => {
  for (const filter of [
    { userId: 2n },
    { apiKeyId: keys[1] },
    { service: "a.A" },
    { method: "Get" },
    { code: 0 },
    { code: 5 },
    { denialReason: "EXPIRED" },
    { from: timeOf(-3) },
    { until: timeOf(-3) },
    { minDurationUs: 3n },
    { maxDurationUs: 3n },
    { protocol: "grpc" },
    { peerAddress: parseAddressRange("192.0.2.0/24") },
    { peerAddress: parseAddressRange("2001:db8::/32") },
    { traceId: traces[0] },
    ...["NOT FOUND", "user", "USER 7", "100%", "_X_", "\\", "é", "É", "ß"].map((errorText) => ({
      errorText,
    })),
  ] satisfies RequestLogFilter[]) {
    const found = await walk(filter, 1000, 20_000);
    assert.ok(
      found.length > 0 && found.length < all.length,
      `${Object.entries(filter)}: ${found.length} rows`,
    );
    assert.deepEqual(ids(found), ids(expectedOf(filter)));
  }
});

test("pages of one row tell rows apart that began within the same millisecond", async () => {
  const filter = { from: timeOf(0), until: timeOf(1000) };
  const expected = expectedOf(filter);
  assert.ok(expected.length > 50);
  assert.deepEqual(ids(await walk(filter, 1, 20_000)), ids(expected));
});

test("a page that looked at all it may is short and says where to go on", async () => {
  const store = createRequestLogStore(db, { scanBudget: 50 });
  const oldest = all.findLast((row) => row.protocol === "verify" && row.durationUs === 5n);
  assert.ok(oldest);
  const filter = { protocol: "verify", minDurationUs: 5n, until: all[0]?.time };
  const page = await store.list(filter, 100);
  assert.ok(page.rows.length < 50);
  assert.notEqual(page.next, undefined);
  assert.equal((await walk(filter, 100, 50)).at(-1)?.id, oldest.id);
});

test("a service with more methods than are walked side by side is listed all the same", async () => {
  const service = "made.Up";
  await sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    SELECT '2031-03-01T12:00:00Z'::timestamptz - n * interval '1 second', gen_random_uuid(), ${service}, 'M' || n % 150,
      'verify', 0, 'none', 1, 'r', gen_random_uuid() FROM generate_series(1, 300) n`;
  const found = await walk({ service }, 70, 100);
  assert.equal(found.length, 300);
  assert.deepEqual(
    found.map(({ method }) => method),
    Array.from({ length: 300 }, (_, n) => `M${(n + 1) % 150}`),
  );
});

test("a key of another user is answered as one that never called, not with pages that tell how much it did", async () => {
  const store = createRequestLogStore(db, { scanBudget: 10 });
  const [apiKeyId = ""] = keys;
  assert.ok((await walk({ apiKeyId, userId: 1n }, 10, 10)).length > 10);
  assert.deepEqual(await store.list({ apiKeyId, userId: 2n }, 5), { rows: [], next: undefined });
});
