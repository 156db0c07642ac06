/** A million log rows beside everything that the keeping of partitions can do: none lost, none twice, nobody kept waiting. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import { connect } from "../../src/db/client.ts";
import { createRecorder } from "../../src/usage/recorder.ts";
import { openPartitioned, type Partitioned } from "../db/partitioned.ts";
import { until } from "../harness/until.ts";
import { callOf, createWriter } from "../usage/batches.ts";

const rows = 1_000_000;
const instances = 3;
const hourMs = 3_600_000;
/** The clock runs from here for 60 hours, past two midnights. */
const startMs = Date.UTC(2031, 2, 30, 6);
const runMs = 60 * hourMs;
const retention = { logRetentionDays: 5 };
const rowsOfOldDays = 20_000;

let db: Partitioned;
let sql: postgres.Sql;
const clients: postgres.Sql[] = [];
before(async () => {
  db = await openPartitioned(2);
  sql = db.sql;
});
after(() => Promise.all([db.close(), ...clients.map((client) => client.end())]));

/** Its statements fail where they wait for a lock for longer than a second. */
async function impatient(): Promise<postgres.Sql> {
  const client = connect({ url: db.url }, { max: 1, purpose: "traffic", statementTimeoutMs: 0 });
  clients.push(client);
  await client`SET lock_timeout = '1s'`;
  return client;
}

async function createKeys(count: number): Promise<{ userId: bigint; apiKeyId: string }[]> {
  const [user] = await sql`INSERT INTO users (username, username_key) VALUES ('ada', 'ada') RETURNING id`;
  const ids = Array.from({ length: count }, () => uuidv7());
  for (const id of ids) {
    await sql`INSERT INTO api_keys (id, user_id, name, type, hash, start)
      VALUES (${id}, ${user?.id}, 'k', 'service', ${Buffer.from(id)}, 'lk_x')`;
    await sql`INSERT INTO api_key_usage (api_key_id) VALUES (${id})`;
  }
  return ids.map((apiKeyId) => ({ userId: BigInt(user?.id), apiKeyId }));
}

test("a million rows are written while the day changes and old days are dropped: none is lost, none is there twice, and no statement waits for a second", {
  timeout: 300_000,
}, async (t) => {
  const keys = await createKeys(20);
  const day = (days: number) => new Date(startMs + days * 24 * hourMs);
  // Two days that grow too old under way, and two that have no partition, but get rows.
  await db.keep(day(-5), retention);
  await db.keep(day(0), retention);
  for (const table of ["request_logs", "method_rollups_minutes", "key_rollups_minutes"]) {
    for (const day of ["20310328", "20310329"]) await sql`DROP TABLE ${sql(`${table}_${day}`)}`;
  }
  for (const days of [-5, -4]) await db.insertRows(day(days), rowsOfOldDays);

  const failures: unknown[] = [];
  const share = Math.ceil(rows / instances);
  const progress = Array.from({ length: instances }, () => 0);
  const clockMs = () => startMs + Math.min(1, Math.min(...progress) / share) * runMs;
  let writing = true;
  /** An old day is dropped, a new one and one that got rows before it had a partition are made. */
  let kept = false;

  async function runInstance(n: number): Promise<void> {
    const recorder = createRecorder({
      write: createWriter(await impatient()),
      durability: "batched",
      onError: (message, error) => failures.push(new Error(message, { cause: error })),
    });
    // On a machine where the partitions take longer than a million rows, some more are written.
    for (let done = 0; done < share || (done < 5 * share && !kept && failures.length === 0); ) {
      for (const end = done + 1000; done < end; done++) {
        const nowMs = startMs + Math.floor(Math.min(1, done / share) * runMs);
        // Some come from clocks that are wrong: days late, whose partition was never made, and weeks ahead.
        const wrongMs = done % 200 === 0 ? -2 * 24 * hourMs : done % 200 === 100 ? 20 * 24 * hourMs : 0;
        const { apiKeyId, userId } = keys[(done + n) % keys.length]!;
        recorder.record(callOf(apiKeyId, { startedAtMs: nowMs + wrongMs }, userId));
      }
      await until(
        () => recorder.pendingCalls,
        (pending) => pending < 6000,
      );
      progress[n] = done;
    }
    await recorder.close(60_000);
    assert.equal(recorder.droppedRows, 0);
  }

  async function keepPartitions(): Promise<void> {
    while (writing) {
      // What gives way to the traffic is done by a later turn.
      for (const n of [0, 1]) await db.keep(new Date(clockMs()), retention, n).catch(() => {});
      const days = await db.partitions();
      kept =
        !days.includes("request_logs_20310325") &&
        ["request_logs_20310328", "request_logs_20310408"].every((made) => days.includes(made));
    }
  }

  async function read(): Promise<void> {
    const reader = await impatient();
    while (writing) {
      await reader`SELECT * FROM request_logs ORDER BY time DESC, id DESC LIMIT 100`;
      await reader`SELECT sum(requests) FROM method_rollups WHERE period_s = 60`;
    }
  }

  const beganMs = performance.now();
  const others = [keepPartitions(), read()].map((work) => work.catch((error) => failures.push(error)));
  let seconds: number;
  try {
    await Promise.all(progress.map((_, n) => runInstance(n)));
    seconds = (performance.now() - beganMs) / 1000;
  } finally {
    writing = false;
    await Promise.all(others);
  }
  assert.deepEqual(failures, []);
  assert.ok(kept);

  await until(
    async () => {
      await db.keep(new Date(startMs + runMs), retention).catch(() => {});
      return {
        strays: await db.strays(),
        old: (await db.partitions()).filter((name) => name < "request_logs_20310327"),
      };
    },
    ({ strays, old }) => strays.length === 0 && old.length === 0,
  );
  const written = progress.reduce((sum, done) => sum + done);
  const [found] = await sql`
    SELECT (SELECT count(*)::int FROM request_logs) AS rows,
      (SELECT count(DISTINCT id)::int FROM request_logs) AS ids,
      (SELECT count(*)::int FROM request_logs_default) AS outside,
      (SELECT sum(request_count)::int FROM api_key_usage) AS counted,
      (SELECT sum(requests)::int FROM method_rollups WHERE period_s = 60) AS by_method,
      (SELECT sum(requests)::int FROM key_rollups WHERE period_s = 60) AS by_key`;
  const { outside, ...counts } = { ...found };
  assert.deepEqual(counts, {
    rows: written,
    ids: written,
    counted: written,
    by_method: written,
    by_key: written,
  });
  assert.ok(outside > 0);
  t.diagnostic(`${Math.round(written / seconds)} rows a second`);
});
