/** What statistics of 30 days over many keys cost: asserted on the plans of the statements themselves. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type postgres from "postgres";
import { connect, database } from "../../src/db/client.ts";
import { foldRollups } from "../../src/usage/fold.ts";
import { dayMs, floorTo, hourMs, minuteMs } from "../../src/usage/range.ts";
import {
  createStatsStore,
  type Dimension,
  type StatsFilter,
  type StatsStore,
} from "../../src/usage/stats-store.ts";
import { costsOf, rowsOf, type Scan } from "../harness/plan.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";

const keys = 20_000;
const days = 30;
/** A method with two codes each. */
const outcomes = 4;
const today = floorTo(dayMs, Date.now());
const range = { startMs: today - days * dayMs, endMs: today + 2 * hourMs };
/** Days and hours that each key has a rollup of, of one method and code. */
const bucketsOfKey = 4;
/** Two hours of today are folded, of which a day is none yet. */
const hours = 2;

let sql: postgres.Sql;
let client: postgres.Sql;
before(async () => {
  const url = await createTestDatabase("made-up");
  sql = openSql(url);
  client = connect({ url }, { max: 1, purpose: "stats", statementTimeoutMs: 0 });
  // Two hours of the 30 days and the first hour of today, each with a minute of every key.
  await sql`
    INSERT INTO key_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes,
      response_bytes, latency, api_key_id, user_id)
    SELECT 60, bucket, 's', 'm' || key % 2, key / 2 % 2 * 5, 1 + 100000 / (1 + key), 1000, 1, 1, '{0,0,1}',
      ('00000000-0000-4000-8000-' || lpad(key::text, 12, '0'))::uuid, 1 + key / 10
    FROM generate_series(0, ${keys - 1}::int) AS key CROSS JOIN (
      SELECT ${new Date(today)}::timestamptz - day * interval '1 day' + interval '12 hours' AS bucket
        FROM generate_series(10, 12) AS day
      UNION ALL SELECT ${new Date(today)}::timestamptz
    ) AS buckets`;
  // Of all 30 days.
  await sql`
    INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes,
      response_bytes, latency)
    SELECT 60, minute, 's', 'm' || outcome % 2, outcome / 2 * 5, 10, 1000, 1, 1, '{0,0,10}'
    FROM generate_series(${new Date(range.startMs)}::timestamptz, ${new Date(range.endMs - 1)}, interval '10 minutes') AS minute
      CROSS JOIN generate_series(0, ${outcomes - 1}::int) AS outcome`;
  await foldRollups(database(client), { now: new Date(range.endMs + 5 * minuteMs) });
  await sql`ANALYZE method_rollups, key_rollups, rollup_tops`;
  const [folded] = await sql`SELECT count(*)::int AS n FROM method_rollups WHERE period_s = 86400`;
  assert.equal(folded?.n, days * outcomes);
});
after(() => Promise.all([sql.end(), client.end()]));

/** Every scan of a table by the statements that a reading sends. */
async function scans(read: (stats: StatsStore) => Promise<unknown>): Promise<Scan[]> {
  const found = (await costsOf(client, (db) => read(createStatsStore(db)))).flatMap((cost) => cost.scans);
  assert.ok(found.length > 0);
  return found;
}

const filters: [string, StatsFilter][] = [
  ["everything", {}],
  ["a method", { service: "s", method: "m1" }],
  ["a code", { code: 5 }],
];

for (const [what, filter] of filters) {
  test(`an overview of ${days} days of ${what} reads a row a period, method and code, and none of a key or the log`, async () => {
    const found = await scans((stats) => stats.overview(filter, range));
    assert.equal(rowsOf(found, /request_logs|key_rollups|rollup_tops/), 0);
    const rows = rowsOf(found, /method_rollups/);
    assert.ok(rows > 0 && rows <= (days + hours) * outcomes, `${rows} rows`);
  });
}

test(`a series of ${days} days by the hour and by method reads each hour's rows twice at most`, async () => {
  const found = await scans((stats) =>
    stats.timeSeries({}, range, { stepMs: hourMs, by: "method", limit: 10 }),
  );
  assert.equal(rowsOf(found, /request_logs|key_rollups|rollup_tops/), 0);
  const rows = rowsOf(found, /method_rollups/);
  assert.ok(rows > 0 && rows <= 2 * (days * 24 + hours) * outcomes, `${rows} rows`);
});

for (const by of ["service", "method", "code", "denialReason"] satisfies Dimension[]) {
  test(`a breakdown of ${days} days by ${by} reads each period's rows twice at most`, async () => {
    const found = await scans((stats) => stats.breakdown({}, range, { by, limit: 10 }));
    assert.equal(rowsOf(found, /request_logs|key_rollups|rollup_tops/), 0);
    const rows = rowsOf(found, /method_rollups/);
    assert.ok(rows > 0 && rows <= 2 * (days + hours) * outcomes, `${rows} rows`);
  });
}

for (const by of ["key", "user"] satisfies Dimension[]) {
  for (const [what, filter] of filters) {
    test(`the busiest ${by}s of ${days} days in ${what} are found by lists, and few of ${keys} are looked at`, async () => {
      const limit = 10;
      const found = await scans((stats) => stats.breakdown(filter, range, { by, limit }));
      assert.equal(rowsOf(found, /request_logs|method_rollups/), 0);
      assert.ok(rowsOf(found, /rollup_tops/) <= (days + hours) * 500);
      // All that count are listed throughout: then the lists tell who they are.
      const candidates = Object.keys(filter).length === 0 ? limit : 500;
      const keysOfOne = by === "key" ? 1 : 10;
      const rows = rowsOf(found, /key_rollups/);
      // Each candidate's rows to find out who has the most, and once more for the sums of who has.
      const most = 2 * candidates * keysOfOne * bucketsOfKey;
      assert.ok(rows > 0 && rows <= Math.min(most, (4 * keys) / 2), `${rows} rows`);
    });
  }
}

test("one key's overview and one user's breakdown read their own rows alone", async () => {
  const apiKeyId = "00000000-0000-4000-8000-000000000123";
  const ofKey = await scans((stats) => stats.overview({ apiKeyId }, range));
  assert.ok(rowsOf(ofKey, /key_rollups/) <= days + hours);
  const ofUser = await scans((stats) => stats.breakdown({ userId: 13n }, range, { by: "key", limit: 10 }));
  assert.ok(rowsOf(ofUser, /key_rollups/) <= 2 * 10 * (days + hours));
  for (const found of [ofKey, ofUser]) {
    assert.ok(rowsOf(found, /key_rollups/) > 0);
    assert.equal(rowsOf(found, /request_logs|rollup_tops|method_rollups/), 0);
  }
});
