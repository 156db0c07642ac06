/** The days of the request log: made ahead, dropped when old, and nothing else touched. The months of the rollups likewise. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type postgres from "postgres";
import { until } from "../harness/until.ts";
import { dayName, days, later, openPartitioned, type Partitioned, today } from "./partitioned.ts";

let db: Partitioned;
let sql: postgres.Sql;
before(async () => {
  db = await openPartitioned(10);
  sql = db.sql;
});
after(() => db.close());
beforeEach(() => db.reset());

const minutesName = (ofDay: number) => dayName(ofDay).replace("request_logs", "method_rollups_minutes");

async function insertRollup(periodS: number, bucket: Date | string): Promise<void> {
  await sql`
    INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency)
    VALUES (${periodS}, ${new Date(bucket).toISOString()}, 'a.B', 'C', 0, 1, 1, 1, 1, '{1}')`;
}

test("today and seven days ahead are made, each a day of UTC, once", async () => {
  await db.keep(today);
  assert.deepEqual(await db.partitions(), [...days(0, 7), "request_logs_default"]);
  await db.insertRow("2031-03-30T00:00:00Z");
  await db.insertRow("2031-03-30T23:59:59.999999Z");
  await db.insertRow("2031-03-31T00:00:00Z");
  await db.insertRow("2031-03-31T01:30:00+02:00");
  assert.deepEqual(await db.places(), { request_logs_20310330: 3, request_logs_20310331: 1 });
  for (const now of [today, new Date("2031-03-30T00:00:00Z"), new Date("2031-03-30T23:59:59.999Z")]) {
    await db.keep(now);
    assert.deepEqual(await db.partitions(), [...days(0, 7), "request_logs_default"]);
  }
  await db.keep(later(1));
  assert.deepEqual(await db.partitions(), [...days(0, 8), "request_logs_default"]);
  assert.deepEqual(await db.places(), { request_logs_20310330: 3, request_logs_20310331: 1 });
});

test("a new day has every index of the log, and they are parts of the log's own", async () => {
  await db.keep(today);
  const rows = await sql`
    SELECT count(*)::int AS n, bool_and(parted.relispartition) AS attached
    FROM pg_index i JOIN pg_class parted ON parted.oid = i.indexrelid
    WHERE i.indrelid = ${dayName(3)}::regclass AND i.indisvalid`;
  const parent = await sql`SELECT count(*)::int AS n FROM pg_index WHERE indrelid = 'request_logs'::regclass`;
  assert.deepEqual({ ...rows[0] }, { n: parent[0]?.n, attached: true });
  assert.ok(parent[0]?.n >= 3);
});

test("days older than the retention are dropped, the day that is just as old is kept", async () => {
  for (const ago of [12, 11, 10, 9]) await db.keep(later(-ago));
  await db.insertRow(later(-11));
  await db.insertRow(later(-10));
  await db.keep(today, { logRetentionDays: 10 });
  assert.deepEqual(await db.partitions(), [...days(-10, -2), ...days(0, 7), "request_logs_default"]);
  assert.deepEqual(await db.places(), { [dayName(-10)]: 1 });
});

test("a row whose day has no partition goes to the default one, which is never dropped; past the retention it is deleted", async () => {
  await db.keep(today);
  await db.insertRow(later(-31));
  await db.insertRow(later(-30));
  await db.insertRow(later(1000));
  assert.deepEqual(await db.places(), { request_logs_default: 3 });
  await db.keep(today);
  assert.deepEqual(await db.places(), { [dayName(-30)]: 1, request_logs_default: 1 });
  await db.keep(today, { logRetentionDays: 1 });
  assert.deepEqual(await db.places(), { request_logs_default: 1 });
});

test("the rollups are split too: minutes by day, hours and days by month, from the one before, of UTC", async () => {
  await db.keep(new Date("2031-12-31T23:59:59.999Z"));
  for (const by of ["method", "key"]) {
    assert.deepEqual(await db.partitions(`${by}_rollups_minutes`), [
      ...["20311231", "20320101", "20320102", "20320103", "20320104", "20320105", "20320106", "20320107"].map(
        (day) => `${by}_rollups_minutes_${day}`,
      ),
      `${by}_rollups_minutes_default`,
    ]);
    for (const period of ["hours", "days"]) {
      assert.deepEqual(await db.partitions(`${by}_rollups_${period}`), [
        `${by}_rollups_${period}_203111`,
        `${by}_rollups_${period}_203112`,
        `${by}_rollups_${period}_203201`,
        `${by}_rollups_${period}_203202`,
        `${by}_rollups_${period}_default`,
      ]);
    }
  }
  await insertRollup(3600, "2031-12-31T23:00:00Z");
  await insertRollup(3600, "2032-01-01T00:00:00Z");
  assert.deepEqual(await db.places("method_rollups"), {
    method_rollups_hours_203112: 1,
    method_rollups_hours_203201: 1,
  });
  // 400 days later the month of 2031-12-31 is still needed; a day later it is not.
  await db.keep(new Date("2033-02-03T12:00:00Z"));
  assert.deepEqual(Object.keys(await db.places("method_rollups")).sort(), [
    "method_rollups_hours_203112",
    "method_rollups_hours_203201",
  ]);
  await db.keep(new Date("2033-02-05T12:00:00Z"));
  assert.deepEqual(await db.places("method_rollups"), { method_rollups_hours_203201: 1 });
});

test("minutes are dropped after 30 days, though not before they are folded into hours, late ones too", async () => {
  await db.keep(later(-31));
  await insertRollup(60, later(-31));
  const kept = async () => (await db.partitions("method_rollups_minutes")).includes(minutesName(-31));

  const folded = (until: Date | undefined) => async () => until;
  await db.keep(today, { foldedUntil: folded(undefined) });
  await db.keep(today, { foldedUntil: folded(new Date(later(-30).setUTCHours(0, 0, 0, -1))) });
  assert.equal(await kept(), true);
  await sql`UPDATE rollup_progress SET folded_until = ${later(-1).toISOString()}`;
  await sql`INSERT INTO rollup_late_hours (hour) VALUES (date_trunc('hour', ${later(-31).toISOString()}::timestamptz))`;
  await db.keep(today);
  assert.equal(await kept(), true);
  assert.deepEqual(await db.places("method_rollups_minutes"), { [minutesName(-31)]: 1 });

  await sql`DELETE FROM rollup_late_hours`;
  await db.keep(today);
  assert.equal(await kept(), false);
  await db.keep(later(29), { foldedUntil: folded(later(29)) });
  assert.ok((await db.partitions("method_rollups_minutes")).includes(minutesName(0)));
});

test("a day is made though the default partition has rows of it, and takes them over", async () => {
  await db.keep(today);
  // A clock that jumped, or a server that was stopped for longer than days were made ahead.
  await db.insertRow(later(8));
  await db.insertRow(new Date("2031-04-07T00:00:00Z"));
  await db.insertRow(later(9));
  assert.deepEqual(await db.places(), { request_logs_default: 3 });
  await db.keep(later(1));
  assert.deepEqual(await db.partitions(), [...days(0, 8), "request_logs_default"]);
  assert.deepEqual(await db.places(), { [dayName(8)]: 2, request_logs_default: 1 });
});

test("what is not a day of the log is kept, whatever it is called and however old", async () => {
  await sql.unsafe(`
    CREATE TABLE request_logs_20200101 (note text);
    CREATE TABLE request_logs_archive PARTITION OF request_logs FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
    CREATE TABLE request_logs_20200102_old PARTITION OF request_logs FOR VALUES FROM ('2020-01-02') TO ('2020-01-03');
    CREATE SCHEMA IF NOT EXISTS elsewhere;
    CREATE TABLE elsewhere.request_logs_20200104 PARTITION OF request_logs
      FOR VALUES FROM ('2020-01-04') TO ('2020-01-05');
    CREATE TABLE request_logs_20200105 PARTITION OF request_logs FOR VALUES FROM ('2020-01-05') TO ('2020-01-06')`);
  try {
    await db.keep(today, { logRetentionDays: 1 });
    assert.deepEqual(
      (await db.partitions()).filter((name) => !name.startsWith("request_logs_2031")),
      [
        "elsewhere.request_logs_20200104",
        "request_logs_20200102_old",
        "request_logs_archive",
        "request_logs_default",
      ],
    );
    assert.deepEqual([...(await sql`SELECT * FROM request_logs_20200101`)], []);
  } finally {
    await sql`DROP TABLE request_logs_20200101`;
    await sql`DROP SCHEMA elsewhere CASCADE`;
  }
});

test("many instances at once do not collide, whether days are to be made or dropped", async () => {
  for (const now of [today, later(20)]) {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, (_, n) => db.keep(now, { logRetentionDays: 5 }, n)),
    );
    const failed = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
    assert.deepEqual(failed, []);
  }
  // One that found another at it did nothing: the next turn does what is left.
  await db.keep(later(20), { logRetentionDays: 5 });
  assert.deepEqual(await db.partitions(), [...days(20, 27), "request_logs_default"]);
});

test("rows are written while days are made and dropped, and none is lost", async () => {
  await db.keep(today);
  let stop = false;
  let written = 0;
  const writing = (async () => {
    for (; !stop; written++) await db.insertRow(later(written % 8));
  })();
  await until(
    () => written,
    (rows) => rows >= 50,
  );
  for (let n = 1; n <= 5; n++) await db.keep(later(n));
  stop = true;
  await writing;
  const places = await db.places();
  assert.equal(
    Object.values(places).reduce((a, b) => a + b, 0),
    written,
  );
  assert.equal(places.request_logs_default, undefined);
});

test("a transaction that holds the log is not waited for: nothing is half done, and the next turn does it", async () => {
  await db.keep(today);
  const reader = await sql.reserve();
  try {
    await reader`BEGIN`;
    await reader`SELECT count(*) FROM request_logs`;
    await assert.rejects(db.keep(later(40)), (error: Error) => /lock timeout/.test(String(error.cause)));
    assert.deepEqual(await db.partitions(), [...days(0, 7), "request_logs_default"]);
    await reader`COMMIT`;
  } finally {
    reader.release();
  }
  await db.keep(later(40));
  assert.deepEqual(await db.partitions(), [...days(40, 47), "request_logs_default"]);
});
