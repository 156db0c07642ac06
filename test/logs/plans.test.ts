/** What a page of the request log costs, by Postgres's own account: a bounded number of rows, whatever the filter. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type postgres from "postgres";
import { parseAddressRange } from "../../src/auth/address-range.ts";
import { connect } from "../../src/db/client.ts";
import type { RequestLogFilter } from "../../src/logs/filter.ts";
import type { RequestLogCursor } from "../../src/logs/list-query.ts";
import { createRequestLogStore, defaultScanBudget } from "../../src/logs/store.ts";
import { costsOf } from "../harness/plan.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";

const days = 31;
const rowCount = 310_000;
const pageSize = 100;
const firstDay = Date.UTC(2031, 2, 1);
const dayMs = 86_400_000;
/** The days and the default partition: an index scan that is merged has read a row of each. */
const partitions = days + 1;

/** Of the rows that only the oldest day has. */
const old = { apiKeyId: "00000000-0000-7000-8000-00000000000a", userId: 11n };
/** Of three rows of the first day. */
const oldTrace = "0af7651916cd43dd8448eb211c80319c";
/** Of nearly all rows. */
const busy = { apiKeyId: "00000000-0000-7000-8000-000000000001", userId: 1n };

let client: postgres.Sql;
let server: postgres.Sql;
before(async () => {
  const url = await createTestDatabase("made-up");
  client = openSql(url);
  server = connect({ url }, { max: 1, purpose: "plans", statementTimeoutMs: 0 });
  for (let day = 0; day < days; day++) {
    const [from = "", to = ""] = [day, day + 1].map((n) => new Date(firstDay + n * dayMs).toISOString());
    await client.unsafe(`CREATE TABLE request_logs_${from.slice(0, 10).replaceAll("-", "")}
      PARTITION OF request_logs FOR VALUES FROM ('${from}') TO ('${to}')`);
  }
  // n % 1000 sets what is seldom apart; `ancient`, what there is on the first day alone.
  await client`
    INSERT INTO request_logs (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, peer_address, request_id, instance_id, error_message, trace_id)
    SELECT ${new Date(firstDay).toISOString()}::timestamptz + n * (interval '31 days' / ${rowCount}::int),
      ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
      CASE WHEN ancient AND n % 10 = 0 THEN 'old.Service' WHEN n % 1000 = 1 THEN 'rare.Service' ELSE 'busy.Service' END,
      CASE WHEN ancient AND n % 10 IN (0, 1) THEN 'Old' || n % 3 WHEN n % 1000 < 500 THEN 'Get' ELSE 'List' END,
      CASE WHEN ancient AND n % 10 = 2 THEN 'verify' ELSE 'grpc' END,
      CASE WHEN ancient AND n % 10 = 3 THEN 13 WHEN n % 100 = 7 THEN 5 WHEN n % 1000 = 8 THEN 16 ELSE 0 END,
      CASE WHEN ancient AND n % 10 = 3 THEN 'EXPIRED' WHEN n % 1000 = 8 THEN 'MISSING' END,
      CASE WHEN n % 1000 = 8 THEN NULL WHEN ancient AND n % 10 = 4 THEN 11 WHEN n % 100 = 9 THEN 2 ELSE 1 END,
      CASE WHEN n % 1000 = 8 THEN NULL
        WHEN ancient AND n % 10 = 4 THEN ${old.apiKeyId}::uuid ELSE ${busy.apiKeyId}::uuid END,
      'api_key', CASE WHEN ancient AND n % 10 = 5 THEN 9000000 ELSE n % 5000 END,
      CASE WHEN ancient AND n % 10 = 6 THEN '2001:db8::1' ELSE '192.0.2.1' END::inet, 'r', gen_random_uuid(),
      CASE WHEN ancient AND n % 10 = 3 THEN 'a needle' WHEN n % 100 = 7 OR n % 1000 = 8 THEN 'hay' END,
      CASE WHEN n < 3 THEN ${oldTrace} WHEN n % 2 = 0 THEN ${"f".repeat(32)} END
    FROM (SELECT n, n < ${rowCount / days}::int AS ancient FROM generate_series(0, ${rowCount - 1}::int) n) numbered`;
  await client`VACUUM ANALYZE request_logs`;
});
after(() => Promise.all([client.end(), server.end()]));

/** What a page costs, and the look for the names that it walks, where there is one. */
async function pageCosts(filter: RequestLogFilter, after?: RequestLogCursor) {
  const costs = await costsOf(server, (db) => createRequestLogStore(db).list(filter, pageSize, after));
  const page = costs.at(-1);
  assert.ok(page);
  const scans = page.scans.reduce((sum, { loops }) => sum + loops, 0);
  return { names: costs.find(({ statement }) => /WITH RECURSIVE/.test(statement)), page: { ...page, scans } };
}

const instant = (ms: number) => new Date(ms).toISOString().replace("Z", "000Z");
const cursorAt = (ms: number): RequestLogCursor => ({
  time: instant(ms),
  id: "ffffffff-ffff-ffff-ffff-ffffffffffff",
});
const places: Record<string, RequestLogCursor | undefined> = {
  "the first page": undefined,
  // A page at depth 1,000: 100,000 rows, a third of all, are newer.
  "page 1,000": cursorAt(firstDay + days * dayMs * (1 - (1000 * pageSize) / rowCount)),
  "a page of the first day": cursorAt(firstDay + dayMs / 2),
};

const range = { from: instant(firstDay + 3 * dayMs + 1000), until: instant(firstDay + 17 * dayMs + 7000) };
const noon = firstDay + 10.5 * dayMs;
const minute = { from: instant(noon), until: instant(noon + 60_000) };
const oneWalk: Record<string, RequestLogFilter> = {
  "no filter": {},
  "a key of the first day": { apiKeyId: old.apiKeyId },
  "the key of nearly all rows": { apiKeyId: busy.apiKeyId },
  "a key that never called": { apiKeyId: "00000000-0000-7000-8000-0000000000ff" },
  "a user of the first day": { userId: old.userId },
  "the user of nearly all rows": { userId: busy.userId },
  "a denial reason of the first day": { denialReason: "EXPIRED" },
  "a rare denial reason": { denialReason: "MISSING" },
  "a code of the first day": { code: 13 },
  "a frequent code": { code: 5 },
  "a method of the first day": { service: "old.Service", method: "Old0" },
  "a frequent method": { service: "busy.Service", method: "Get" },
  "a trace of the first day": { traceId: oldTrace },
  "a frequent trace": { traceId: "f".repeat(32) },
  "a trace that no row has": { traceId: "1".repeat(32) },
  "a time range": range,
  "a key in a time range": { ...range, apiKeyId: busy.apiKeyId },
  "a key before its first call": { apiKeyId: old.apiKeyId, from: range.from },
  "a key in a minute": { ...minute, apiKeyId: busy.apiKeyId },
  "a method in a minute": { ...minute, service: "busy.Service", method: "Get" },
  "a method in a time range": { ...range, service: "busy.Service", method: "Get" },
};
/** A service or a method alone: so many walks side by side. */
const sideBySide: Record<string, RequestLogFilter> = {
  "a service of the first day": { service: "old.Service" },
  "a frequent service": { service: "busy.Service" },
  "a rare service": { service: "rare.Service" },
  "no service that there is": { service: "none.Service" },
  "a service in a time range": { ...range, service: "busy.Service" },
  "a frequent method of any service": { method: "Get" },
  "a method of the first day of any service": { method: "Old1" },
};
const withRest: Record<string, RequestLogFilter> = {
  "long calls": { minDurationUs: 5_000_000n },
  "short calls": { maxDurationUs: 0n },
  "a protocol of the first day": { protocol: "verify" },
  "an address of the first day": { peerAddress: parseAddressRange("2001:db8::/32") },
  "an error text of the first day": { errorText: "needle" },
  "an error text that no row has": { errorText: "nothing" },
  "code ok": { code: 0 },
  "long calls that were ok": { code: 0, minDurationUs: 5_000_000n },
  "a user's failures": { userId: busy.userId, code: 13 },
  "a key's protocol": { apiKeyId: busy.apiKeyId, protocol: "verify" },
  "a frequent code by an address": { code: 5, peerAddress: parseAddressRange("2001:db8::1") },
  "a method's long calls": { service: "busy.Service", method: "Get", minDurationUs: 5_000_000n },
  "a service's long calls": { service: "busy.Service", minDurationUs: 5_000_000n },
  "a method's error text, of any service": { method: "Get", errorText: "needle" },
  "long calls of a time range": { ...range, minDurationUs: 5_000_000n },
};

for (const [place, after] of Object.entries(places)) testPlace(place, after);

test("Postgres forgets what it knows of the rows", async () => {
  await client`DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE 'request_logs%'`;
});
for (const [place, after] of Object.entries(places)) testPlace(`without statistics, ${place}`, after);

function testPlace(place: string, after: RequestLogCursor | undefined): void {
  test(`${place} reads its rows and one of each day, under a filter that an index answers`, async () => {
    for (const [what, filter] of Object.entries(oneWalk)) {
      const { page } = await pageCosts(filter, after);
      const most = pageSize + 1 + partitions;
      assert.ok(page.rows <= most, `${what}: ${page.rows} rows of at most ${most}`);
      // Index entries that a scan passes over are no rows, but they are pages.
      assert.ok(page.pages <= page.rows + 4 * page.scans, `${what}: ${page.pages} pages`);
      const { page: first } = await pageCosts(filter);
      assert.ok(
        page.pages <= first.pages + 16,
        `${what}: ${page.pages} pages, and ${first.pages} of the first`,
      );
      assert.ok(page.rows === 0 || !page.nodes.has("Sort"), what);
    }
  });

  test(`${place} reads as much for each method, under a service alone, and for each service, under a method`, async () => {
    for (const [what, filter] of Object.entries(sideBySide)) {
      const { names, page } = await pageCosts(filter, after);
      const walks = 5;
      const most = walks * (pageSize + 1 + partitions);
      assert.ok(page.rows <= most, `${what}: ${page.rows} rows of at most ${most}`);
      assert.ok(page.pages <= 2 * most + walks * 4 * partitions, `${what}: ${page.pages} pages`);
      assert.ok(names);
      assert.ok(names.rows <= (walks + 1) * partitions, `${what}: ${names.rows} rows for the names`);
      assert.ok(names.pages <= (walks + 1) * 4 * partitions, `${what}: ${names.pages} pages for the names`);
    }
  });

  test(`${place} reads no more than the budget, under a filter that no index answers`, async () => {
    for (const [what, filter] of Object.entries(withRest)) {
      const { page } = await pageCosts(filter, after);
      const most = defaultScanBudget + 16 * partitions;
      assert.ok(page.rows <= most, `${what}: ${page.rows} rows of at most ${most}`);
      assert.ok(page.pages <= 2 * most, `${what}: ${page.pages} pages`);
    }
  });
}
