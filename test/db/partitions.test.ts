/** The days of the request log: made ahead, dropped when old, and nothing else touched. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type postgres from "postgres";
import { connect, database } from "../../src/db/client.ts";
import { keepPartitions } from "../../src/logs/partitions.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";

const dayMs = 86_400_000;
const today = new Date("2031-03-30T13:14:15.926Z");
const later = (days: number) => new Date(today.getTime() + days * dayMs);

let url: string;
let sql: postgres.Sql;
let clients: postgres.Sql[];
before(async () => {
  url = await createTestDatabase();
  sql = openSql(url);
  clients = Array.from({ length: 10 }, () =>
    connect({ url }, { max: 1, purpose: "partitions", statementTimeoutMs: 10_000 }),
  );
});
after(async () => {
  await Promise.all([sql, ...clients].map((client) => client.end()));
});
beforeEach(async () => {
  for (const name of await partitions()) {
    if (name !== "request_logs_default") await sql`DROP TABLE ${sql(name)}`;
  }
  await sql`TRUNCATE request_logs`;
});

const keep = (now: Date, retentionDays = 30, client = 0) =>
  keepPartitions(database(clients[client]!), retentionDays, now);

async function partitions(): Promise<string[]> {
  const rows = await sql`SELECT inhrelid::regclass::text AS name FROM pg_inherits
    WHERE inhparent = 'request_logs'::regclass ORDER BY 1`;
  return rows.map(({ name }) => name);
}

/** The partition's name of a day so many days from today. */
const dayName = (days: number) =>
  `request_logs_${later(days).toISOString().slice(0, 10).replaceAll("-", "")}`;
const days = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => dayName(from + n));

async function insertRow(time: Date | string): Promise<void> {
  await sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    VALUES (${String(time instanceof Date ? time.toISOString() : time)}::timestamptz, gen_random_uuid(), 'a.B', 'C', 'grpc', 0,
      'none', 1, 'r', gen_random_uuid())`;
}

async function placesOf(): Promise<Record<string, number>> {
  const rows =
    await sql`SELECT tableoid::regclass::text AS name, count(*)::int AS n FROM request_logs GROUP BY 1`;
  return Object.fromEntries(rows.map(({ name, n }) => [name, n]));
}

test("today and seven days ahead are made, each a day of UTC, once", async () => {
  await keep(today);
  assert.deepEqual(await partitions(), [...days(0, 7), "request_logs_default"]);
  await insertRow("2031-03-30T00:00:00Z");
  await insertRow("2031-03-30T23:59:59.999999Z");
  await insertRow("2031-03-31T00:00:00Z");
  await insertRow("2031-03-31T01:30:00+02:00");
  assert.deepEqual(await placesOf(), { request_logs_20310330: 3, request_logs_20310331: 1 });
  for (const now of [today, new Date("2031-03-30T00:00:00Z"), new Date("2031-03-30T23:59:59.999Z")]) {
    await keep(now);
    assert.deepEqual(await partitions(), [...days(0, 7), "request_logs_default"]);
  }
  await keep(later(1));
  assert.deepEqual(await partitions(), [...days(0, 8), "request_logs_default"]);
  assert.deepEqual(await placesOf(), { request_logs_20310330: 3, request_logs_20310331: 1 });
});

test("a new day has every index of the log, and they are parts of the log's own", async () => {
  await keep(today);
  const rows = await sql`
    SELECT count(*)::int AS n, bool_and(parted.relispartition) AS attached
    FROM pg_index i JOIN pg_class parted ON parted.oid = i.indexrelid
    WHERE i.indrelid = ${dayName(3)}::regclass AND i.indisvalid`;
  const parent = await sql`SELECT count(*)::int AS n FROM pg_index WHERE indrelid = 'request_logs'::regclass`;
  assert.deepEqual({ ...rows[0] }, { n: parent[0]?.n, attached: true });
  assert.ok(parent[0]?.n >= 3);
});

test("days older than the retention are dropped, the day that is just as old is kept", async () => {
  for (const ago of [12, 11, 10, 9]) await keep(later(-ago), 30);
  await insertRow(later(-11));
  await insertRow(later(-10));
  await keep(today, 10);
  assert.deepEqual(await partitions(), [...days(-10, -2), ...days(0, 7), "request_logs_default"]);
  assert.deepEqual(await placesOf(), { [dayName(-10)]: 1 });
});

test("a row whose day has no partition goes to the default one, which is never dropped", async () => {
  await keep(today);
  await insertRow(later(-1000));
  await insertRow(later(1000));
  assert.deepEqual(await placesOf(), { request_logs_default: 2 });
  await keep(today, 1);
  assert.deepEqual(await placesOf(), { request_logs_default: 2 });
});

test("a day is made though the default partition has rows of it, and takes them over", async () => {
  await keep(today);
  // A clock that jumped, or a server that was stopped for longer than days were made ahead.
  await insertRow(later(8));
  await insertRow(new Date("2031-04-07T00:00:00Z"));
  await insertRow(later(9));
  assert.deepEqual(await placesOf(), { request_logs_default: 3 });
  await keep(later(1));
  assert.deepEqual(await partitions(), [...days(0, 8), "request_logs_default"]);
  assert.deepEqual(await placesOf(), { [dayName(8)]: 2, request_logs_default: 1 });
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
    await keep(today, 1);
    assert.deepEqual(
      (await partitions()).filter((name) => !name.startsWith("request_logs_2031")),
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
    const outcomes = await Promise.allSettled(clients.map((_, n) => keep(now, 5, n)));
    const failed = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
    assert.deepEqual(failed, []);
  }
  // One that found another at it did nothing: the next turn does what is left.
  await keep(later(20), 5);
  assert.deepEqual(await partitions(), [...days(20, 27), "request_logs_default"]);
});

test("rows are written while days are made and dropped, and none is lost", async () => {
  await keep(today);
  let stop = false;
  let written = 0;
  const writing = (async () => {
    for (; !stop; written++) await insertRow(later(written % 8));
  })();
  await until(
    () => written,
    (rows) => rows >= 50,
  );
  for (let n = 1; n <= 5; n++) await keep(later(n));
  stop = true;
  await writing;
  const places = await placesOf();
  assert.equal(
    Object.values(places).reduce((a, b) => a + b, 0),
    written,
  );
  assert.equal(places.request_logs_default, undefined);
});

test("a transaction that holds the log is not waited for: nothing is half done, and the next turn does it", async () => {
  await keep(today);
  const reader = await sql.reserve();
  try {
    await reader`BEGIN`;
    await reader`SELECT count(*) FROM request_logs`;
    await assert.rejects(keep(later(40)), (error: Error) => /lock timeout/.test(String(error.cause)));
    assert.deepEqual(await partitions(), [...days(0, 7), "request_logs_default"]);
    await reader`COMMIT`;
  } finally {
    reader.release();
  }
  await keep(later(40));
  assert.deepEqual(await partitions(), [...days(40, 47), "request_logs_default"]);
});
