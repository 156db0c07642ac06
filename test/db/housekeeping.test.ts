/** The housekeeping of a server: what it sweeps out, and by which clock. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import { connect, database } from "../../src/db/client.ts";
import { createClocks } from "../../src/db/clocks.ts";
import { createHousekeeping } from "../../src/db/housekeeping.ts";
import { sweepRows } from "../../src/db/sweep.ts";
import { foldedUntil } from "../../src/usage/fold-store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const retention = { logRetentionDays: 30, statsRetentionDays: 400 };

let sql: postgres.Sql;
let client: postgres.Sql;
before(async () => {
  const url = await createTestDatabase();
  sql = openSql(url);
  client = connect({ url }, { max: 1, purpose: "housekeeping", statementTimeoutMs: 10_000 });
});
after(() => Promise.all([sql.end(), client.end()]));

const dayName = (date: Date) => `request_logs_${date.toISOString().slice(0, 10).replaceAll("-", "")}`;

async function insertSession(expiresAt: Date): Promise<void> {
  const id = uuidv7();
  const [user] = await sql`INSERT INTO users (username, username_key) VALUES (${id}, ${id}) RETURNING id`;
  await sql`INSERT INTO sessions (id, hash, user_id, expires_at, ends_at)
    VALUES (${id}, ${Buffer.from(id)}, ${user?.id}, ${expiresAt.toISOString()}, ${expiresAt.toISOString()})`;
}

test("sessions that expired, instances long not seen and old busiest keys are deleted, many too, and no others", async () => {
  const now = new Date("2031-03-30T13:14:15Z");
  const ago = (ms: number) => new Date(now.getTime() - ms);
  await insertSession(ago(1));
  await insertSession(ago(-1));
  await sql`
    INSERT INTO instances (id, hostname, pid, version, started_at, seen_at)
    SELECT gen_random_uuid(), 'h', n, '0', '2026-01-01', ${ago(30 * dayMs + 1).toISOString()} FROM generate_series(1, 2500) n`;
  await sql`
    INSERT INTO instances (id, hostname, pid, version, started_at, seen_at)
    VALUES (gen_random_uuid(), 'h', 0, '0', '2026-01-01', ${ago(30 * dayMs - 1).toISOString()})`;
  for (const [kind, periodS] of [
    ["key", 3600],
    ["key", 86_400],
    ["user", 3600],
    ["user", 86_400],
  ] as const) {
    await sql`
      INSERT INTO rollup_tops (period_s, bucket, kind, rank, user_id, api_key_id, requests, rest)
      SELECT ${periodS}, bucket, ${kind}, rank, 1, gen_random_uuid(), 1, 0 FROM generate_series(1, 600) rank,
        unnest(ARRAY[${ago(400 * dayMs + 1).toISOString()}, ${ago(400 * dayMs - 1).toISOString()}]::timestamptz[]) bucket`;
  }
  const counts = async () => {
    const [row] = await sql`SELECT (SELECT count(*)::int FROM sessions) AS sessions,
      (SELECT count(*)::int FROM instances) AS instances, (SELECT count(*)::int FROM rollup_tops) AS tops`;
    return { ...row };
  };
  assert.deepEqual(await counts(), { sessions: 2, instances: 2501, tops: 4800 });
  await sweepRows(database(client), retention, { now, earliest: now });
  assert.deepEqual(await counts(), { sessions: 1, instances: 1, tops: 2400 });
});

test("a clock that is ahead of the database's makes nothing old", async () => {
  const ahead = 1000 * dayMs;
  const readClocks = createClocks({ wallMs: () => Date.now() + ahead });
  const { now, earliest } = await readClocks(database(client));
  assert.ok(now.getTime() - earliest.getTime() > ahead - hourMs);
  const behind = await createClocks({ wallMs: () => Date.now() - ahead })(database(client));
  assert.deepEqual(behind.earliest, behind.now);
});

test("a clock that jumps ahead, the database's with it, makes nothing old for an hour", async () => {
  // The database's is far ahead of both.
  let [wall, steady] = [Date.UTC(2020, 0, 1), 5000];
  const readClocks = createClocks({ wallMs: () => wall, steadyMs: () => steady });
  const passes = (ms: number) => {
    wall += ms;
    steady += ms;
  };
  const earliest = async () => (await readClocks(database(client))).earliest.getTime();
  passes(dayMs);
  assert.equal(await earliest(), wall);

  wall += 100 * dayMs;
  assert.equal(await earliest(), wall - 100 * dayMs);
  passes(hourMs);
  assert.equal(await earliest(), wall - 100 * dayMs);
  // Back again: as if nothing had been.
  wall -= 100 * dayMs;
  assert.equal(await earliest(), wall);

  wall += 100 * dayMs;
  assert.equal(await earliest(), wall - 100 * dayMs);
  passes(hourMs + 1);
  assert.equal(await earliest(), wall);
});

test("a database that does not answer delays neither the start nor the stop", async () => {
  const nowhere = connect(
    { url: "postgres://ada@127.0.0.1:1/none" },
    { max: 1, purpose: "housekeeping", statementTimeoutMs: 0 },
  );
  const told: string[] = [];
  const housekeeping = createHousekeeping({
    db: database(nowhere),
    ...retention,
    foldedUntil,
    onError: (message) => void told.push(message),
  });
  await housekeeping.start();
  assert.match(told[0] ?? "", /partitions could not be kept/);
  await housekeeping.close();
  await nowhere.end({ timeout: 0 });
});

test("a server that starts after a long stop has today's partitions, drops old ones and moves what lies outside", async () => {
  const databaseUrl = await createTestDatabase();
  const other = openSql(databaseUrl);
  const old = new Date(Date.now() - 50 * dayMs);
  const from = old.toISOString().slice(0, 10);
  const to = new Date(old.getTime() + dayMs).toISOString().slice(0, 10);
  await other.unsafe(
    `CREATE TABLE ${dayName(old)} PARTITION OF request_logs FOR VALUES FROM ('${from}') TO ('${to}')`,
  );
  await other`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    SELECT now() - n % 2 * interval '5 days', gen_random_uuid(), 'a.B', 'C', 'grpc', 0, 'none', 1, 'r', gen_random_uuid()
    FROM generate_series(1, 3000) n`;
  const server = await startServer({ databaseUrl });
  try {
    const exists = async (name: string) =>
      (await other`SELECT to_regclass(${name}) IS NOT NULL AS found`)[0]?.found as boolean;
    assert.equal(await exists(dayName(new Date())), true);
    const inDays = async () => {
      const [row] = await other`SELECT count(*)::int AS n FROM request_logs
        WHERE tableoid <> 'request_logs_default'::regclass`;
      return row?.n;
    };
    await until(inDays, (rows) => rows === 3000);
    await until(
      () => exists(dayName(old)),
      (found) => !found,
    );
  } finally {
    await server.close();
    await other.end();
  }
});
