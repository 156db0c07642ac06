/** Rows that lie in a default partition, as after a clock jump or a long stop: moved to where they belong, none lost, none twice. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { connect, database } from "../../src/db/client.ts";
import { makeMissing } from "../../src/db/partitions.ts";
import { foldedUntil } from "../../src/usage/fold-store.ts";
import { until } from "../harness/until.ts";
import { dayName, days, later, openPartitioned, type Partitioned, today } from "./partitioned.ts";

/** More than are moved in the transaction that replaces the default partition. */
const many = 2500;
const retention = { logRetentionDays: 30, statsRetentionDays: 400 };

let db: Partitioned;
let sql: postgres.Sql;
let client: postgres.Sql;
before(async () => {
  db = await openPartitioned(4);
  sql = db.sql;
  client = connect({ url: db.url }, { max: 1, purpose: "killed", statementTimeoutMs: 10_000 });
});
after(() => Promise.all([db.close(), client.end()]));
beforeEach(() => db.reset());

/** What a keeper has done that was killed before it came to drain. */
const replaceDefaults = (now: Date) =>
  makeMissing(database(client), { ...retention, foldedUntil }, { now, earliest: now });

test("rows of days that are retained are moved into days of their own, rows of other times stay, and nothing is left of the move", async () => {
  await db.insertRows(new Date("2031-03-01T23:40:00Z"), many);
  await db.insertRows(new Date("2031-03-30T23:40:00Z"), many);
  await db.insertRow(later(500));
  assert.deepEqual(await db.places(), { request_logs_default: 2 * many + 1 });
  await db.keep(today);
  assert.deepEqual(await db.places(), {
    request_logs_20310301: 1200,
    request_logs_20310302: many - 1200,
    request_logs_20310330: 1200,
    request_logs_20310331: many - 1200,
    request_logs_default: 1,
  });
  assert.deepEqual(await db.partitions(), [
    "request_logs_20310301",
    "request_logs_20310302",
    ...days(0, 7),
    "request_logs_default",
  ]);
  assert.deepEqual(await db.strays(), []);
});

test("a few rows are moved at once: no reader misses one", async () => {
  await db.insertRows(later(0), 500);
  await replaceDefaults(today);
  assert.deepEqual(await db.places(), { [dayName(0)]: 500 });
  assert.deepEqual(await db.strays(), []);
});

test("what one that was killed has left undone, the next one does, from several such", async () => {
  await db.insertRows(later(0), many);
  await replaceDefaults(today);
  assert.deepEqual(await db.strays(), ["request_logs_stray_1"]);
  await db.insertRows(later(20), many);
  await replaceDefaults(later(20));
  assert.deepEqual(await db.strays(), ["request_logs_stray_1", "request_logs_stray_2"]);
  assert.ok(((await db.places())[dayName(0)] ?? 0) < many);

  await db.keep(later(20));
  assert.deepEqual(await db.places(), { [dayName(0)]: many, [dayName(20)]: many });
  assert.deepEqual(await db.strays(), []);
});

test("several that move the same rows take turns: each is moved once, and none gives up", async () => {
  await db.insertRows(later(-1), 30_000);
  await replaceDefaults(today);
  await Promise.all([0, 1, 2, 3].map((n) => db.keep(today, {}, n)));
  assert.deepEqual(await db.places(), { [dayName(-1)]: 30_000 });
  const [row] = await sql`SELECT count(DISTINCT id)::int AS ids FROM request_logs`;
  assert.equal(row?.ids, 30_000);
  assert.deepEqual(await db.strays(), []);
});

test("one that another keeps from it goes on once it may: no row is out of sight until the next turn", async () => {
  await db.insertRows(later(0), many);
  await replaceDefaults(today);
  const other = await sql.reserve();
  let ended = false;
  try {
    await other`SELECT pg_advisory_lock(7270951825)`;
    const keeping = db.keep(today).finally(() => {
      ended = true;
    });
    // It asks a dozen times meanwhile.
    await sleep(1000);
    assert.equal(ended, false);
    await other`SELECT pg_advisory_unlock(7270951825)`;
    await keeping;
  } finally {
    await other`SELECT pg_advisory_unlock_all()`;
    other.release();
  }
  assert.deepEqual(await db.places(), { [dayName(0)]: many });
  assert.deepEqual(await db.strays(), []);
});

test("one that is broken off while it moves rows has moved each once or not at all", async () => {
  await db.insertRows(later(-1), 30_000);
  await replaceDefaults(today);
  let failure: Error | undefined;
  const moving = db.keep(today).catch((error: Error) => {
    failure = error;
  });
  await until(
    async () => (await db.places())[dayName(-1)] ?? 0,
    (moved) => moved >= 6000,
  );
  await until(
    async () => {
      await sql`SELECT pg_cancel_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'latchkey partitions'`;
      return failure;
    },
    (error) => error !== undefined,
  );
  await moving;
  assert.match(String(failure?.cause), /canceling statement/);
  assert.deepEqual(await db.strays(), ["request_logs_stray_1"]);
  const { [dayName(-1)]: moved = 0 } = await db.places();
  assert.ok(moved < 30_000);

  await db.keep(today, {}, 1);
  assert.deepEqual(await db.places(), { [dayName(-1)]: 30_000 });
  const [row] = await sql`SELECT count(DISTINCT id)::int AS ids FROM request_logs`;
  assert.equal(row?.ids, 30_000);
  assert.deepEqual(await db.strays(), []);
});

test("a stray from before a migration is moved column by column", async () => {
  await db.insertRows(later(0), many);
  await replaceDefaults(today);
  await sql`ALTER TABLE request_logs DROP COLUMN user_agent`;
  await sql`ALTER TABLE request_logs ADD COLUMN user_agent text NOT NULL DEFAULT 'unknown'`;
  await db.keep(today);
  assert.deepEqual(await db.places(), { [dayName(0)]: many });
  const agents = await sql`SELECT user_agent, count(*)::int AS n FROM request_logs GROUP BY 1 ORDER BY 1`;
  assert.deepEqual(
    agents.map((row) => ({ ...row })),
    [
      { user_agent: "", n: many - 1000 },
      { user_agent: "unknown", n: 1000 },
    ],
  );
});

test("rows past the retention are deleted, wherever they lie", async () => {
  await db.insertRows(later(-100), many);
  await db.insertRows(later(-20), many);
  await replaceDefaults(today);
  assert.deepEqual(await db.strays(), ["request_logs_stray_1"]);
  await db.insertRows(later(-100), many);
  await db.keep(today);
  assert.deepEqual(await db.places(), { [dayName(-20)]: many });
  assert.deepEqual(await db.strays(), []);
});

test("a default partition that holds the far future alone is left as it is, and days are made beside it", async () => {
  await db.keep(today);
  await db.insertRows(later(3000), many);
  const [before] = await sql`SELECT 'request_logs_default'::regclass::oid AS oid`;
  for (const now of [today, later(1), later(2)]) await db.keep(now);
  assert.deepEqual(await db.partitions(), [...days(0, 9), "request_logs_default"]);
  assert.deepEqual(await db.places(), { request_logs_default: many });
  const [afterwards] = await sql`SELECT 'request_logs_default'::regclass::oid AS oid`;
  assert.deepEqual(afterwards, before);
});

test("a default partition that is long to scan is not scanned for a new day, but replaced, once", async () => {
  await db.keep(today);
  // 17 MB: dead rows are scanned as well.
  await sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id, error_message)
    SELECT ${later(3000).toISOString()}::timestamptz, gen_random_uuid(), 'a.B', 'C', 'grpc', 0, 'none', 1, 'r', gen_random_uuid(), repeat('x', 1500)
    FROM generate_series(1, 13000)`;
  await sql`DELETE FROM request_logs WHERE id < '40000000-0000-0000-0000-000000000000'`;
  const [{ n } = { n: 0 }] = await sql`SELECT count(*)::int AS n FROM request_logs`;
  const oid = async () => (await sql`SELECT 'request_logs_default'::regclass::oid AS oid`)[0]?.oid;
  const before = await oid();
  await db.keep(later(1));
  const replaced = await oid();
  assert.notEqual(replaced, before);
  assert.deepEqual(await db.partitions(), [...days(0, 8), "request_logs_default"]);
  assert.deepEqual(await db.places(), { request_logs_default: n });
  assert.deepEqual(await db.strays(), []);
  await db.keep(later(1));
  assert.equal(await oid(), replaced);
});

test("minutes that the writer has counted meanwhile are added to, and their hours marked to be folded again", async () => {
  const key = "11111111-1111-1111-1111-111111111111";
  const hour = new Date("2031-03-30T10:00:00Z");
  const insert = (requests: number, latency: string) => sql`
    INSERT INTO key_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes,
      response_bytes, latency, api_key_id, user_id)
    SELECT 60, ${hour.toISOString()}::timestamptz + n % 120 * interval '1 minute', 'a.B', 'C', n / 120,
      ${requests}::int, ${requests}::int * 10, ${requests}::int * 100, ${requests}::int * 1000, ${latency}::int[], ${key}::uuid, 1
    FROM generate_series(0, ${many - 1}::int) n`;
  await insert(2, "{1,0,1}");
  await replaceDefaults(today);
  assert.deepEqual(await db.strays(), ["key_rollups_minutes_stray_1"]);
  await sql`DELETE FROM key_rollups`;
  await sql`DELETE FROM rollup_late_hours`;
  await insert(3, "{0,1,1,0,1}");
  const [{ left } = { left: 0 }] = await sql`SELECT count(*)::int AS left FROM key_rollups_minutes_stray_1`;
  assert.ok(left > 1000);

  await db.keep(today);
  assert.deepEqual(await db.places("key_rollups"), { key_rollups_minutes_20310330: many });
  const sums = await sql`
    SELECT requests::int, duration_us::int, request_bytes::int, response_bytes::int, latency, count(*)::int AS rows
    FROM key_rollups GROUP BY 1, 2, 3, 4, 5 ORDER BY 1`;
  assert.deepEqual(
    sums.map((row) => ({ ...row })),
    [
      {
        requests: 3,
        duration_us: 30,
        request_bytes: 300,
        response_bytes: 3000,
        latency: [0, 1, 1, 0, 1],
        rows: many - left,
      },
      {
        requests: 5,
        duration_us: 50,
        request_bytes: 500,
        response_bytes: 5000,
        latency: [1, 1, 2, 0, 1],
        rows: left,
      },
    ],
  );
  const late = await sql`SELECT DISTINCT hour FROM rollup_late_hours ORDER BY 1`;
  assert.deepEqual(
    late.map((row) => row.hour.toISOString()),
    ["2031-03-30T10:00:00.000Z", "2031-03-30T11:00:00.000Z"],
  );
});

test("hours that were folded anew meanwhile are not added to: they are complete", async () => {
  const insert = (requests: number) => sql`
    INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency)
    SELECT 3600, '2031-01-01T00:00:00Z'::timestamptz + n % 24 * interval '1 hour', 'a.B', 'C', n / 24,
      ${requests}::int, 1, 1, 1, '{1}' FROM generate_series(0, ${many - 1}::int) n`;
  await insert(2);
  await replaceDefaults(today);
  assert.deepEqual(await db.strays(), ["method_rollups_hours_stray_1"]);
  await sql`DELETE FROM method_rollups`;
  await insert(3);
  await db.keep(today);
  assert.deepEqual(await db.places("method_rollups"), { method_rollups_hours_203101: many });
  const [row] = await sql`SELECT min(requests)::int AS least, max(requests)::int AS most FROM method_rollups`;
  assert.deepEqual({ ...row }, { least: 3, most: 3 });
  // Their day may have been folded without them.
  const [late] = await sql`SELECT count(DISTINCT hour)::int AS hours FROM rollup_late_hours`;
  assert.equal(late?.hours, 24);
});

test("minutes past the retention that were never folded are kept wherever they lie, until they are", async () => {
  for (const day of [-40, 0]) {
    await sql`
      INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency)
      SELECT 60, ${later(day).toISOString()}::timestamptz, 'a.B', 'C', n, 1, 1, 1, 1, '{1}'
      FROM generate_series(1, ${many}::int) n`;
  }
  await replaceDefaults(today);
  assert.deepEqual(await db.strays(), ["method_rollups_minutes_stray_1"]);
  const today0 = dayName(0).replace("request_logs", "method_rollups_minutes");
  await db.keep(today, { foldedUntil: async () => later(-41) });
  assert.deepEqual(await db.places("method_rollups"), {
    [today0]: many,
    method_rollups_minutes_default: many,
  });
  await db.keep(today, { foldedUntil: async () => today });
  assert.deepEqual(await db.places("method_rollups"), { [today0]: many });
});
