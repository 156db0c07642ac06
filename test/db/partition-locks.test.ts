/** Partitions are kept beside the traffic: nobody waits for it, and it waits for nobody. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import { connect } from "../../src/db/client.ts";
import { until } from "../harness/until.ts";
import { batchOf, callOf, createWriter } from "../usage/batches.ts";
import { days, later, openPartitioned, type Partitioned, today } from "./partitioned.ts";

let db: Partitioned;
let sql: postgres.Sql;
const clients: postgres.Sql[] = [];
before(async () => {
  db = await openPartitioned(4);
  sql = db.sql;
});
after(() => Promise.all([db.close(), ...clients.map((client) => client.end())]));
beforeEach(() => db.reset());

/** A connection whose statements fail where they wait for a lock for longer than a second. */
async function impatient(): Promise<postgres.Sql> {
  const client = connect({ url: db.url }, { max: 1, purpose: "traffic", statementTimeoutMs: 0 });
  clients.push(client);
  await client`SET lock_timeout = '1s'`;
  return client;
}

test("statements never wait for a second while partitions are replaced, drained, made and dropped", async () => {
  // More than can be moved within a second.
  const rows = 100_000;
  for (const day of [0, -3, -6]) await db.insertRows(later(day), rows, 100);
  let stop = false;
  let written = 3 * rows;
  const failures: unknown[] = [];
  const running: Promise<void>[] = [];
  const run = (work: (turn: number) => Promise<unknown>) => {
    const loop = async () => {
      for (let turn = 1; !stop; turn++) await work(turn);
    };
    running.push(loop().catch((error: unknown) => void failures.push(error)));
  };

  for (const spread of [8, 40]) {
    const write = createWriter(await impatient());
    run(async (turn) => {
      const calls = Array.from({ length: 50 }, (_, n) =>
        callOf(uuidv7(), { startedAtMs: later(((turn + n) % spread) - 2).getTime() }),
      );
      await write(batchOf(turn, calls));
      written += calls.length;
    });
  }
  const readers = [
    "SELECT count(*) FROM request_logs",
    "SELECT * FROM request_logs ORDER BY time DESC, id DESC LIMIT 50",
    "SELECT sum(requests) FROM method_rollups WHERE period_s = 60",
    "SELECT sum(requests) FROM key_rollups",
    // As pg_dump does: every lock at once, and then for a while.
    "BEGIN; LOCK TABLE request_logs, method_rollups, key_rollups IN ACCESS SHARE MODE; SELECT pg_sleep(0.05); COMMIT",
  ];
  for (const statement of readers) {
    const client = await impatient();
    run(async () => {
      await client.unsafe(statement);
      await sleep(20);
    });
  }

  // Each turn of one of several: a keeper may give up, and then the next does it.
  const keepUntilDone = (now: Date, isDone: (names: string[]) => boolean) =>
    until(
      async () => {
        await Promise.allSettled([0, 1, 2, 3].map((n) => db.keep(now, { logRetentionDays: 7 }, n)));
        return { partitions: await db.partitions(), strays: await db.strays() };
      },
      ({ partitions, strays }) => strays.length === 0 && isDone(partitions),
    );
  try {
    await keepUntilDone(today, (names) => [...days(-6, -6), ...days(-3, 7)].every((d) => names.includes(d)));
    await keepUntilDone(later(1), (names) => names.includes(days(8, 8)[0]!));
    await keepUntilDone(later(2), (names) => !names.includes(days(-6, -6)[0]!));
  } finally {
    stop = true;
    await Promise.all(running);
  }
  assert.deepEqual(failures, []);

  const [row] = await sql`
    SELECT (SELECT count(*)::int FROM request_logs) AS rows,
      (SELECT count(DISTINCT id)::int FROM request_logs) AS ids,
      (SELECT sum(requests)::int FROM method_rollups) AS by_method,
      (SELECT sum(requests)::int FROM key_rollups) AS by_key`;
  assert.deepEqual(
    { ...row },
    {
      rows: written - rows,
      ids: written - rows,
      by_method: written - 3 * rows,
      by_key: written - 3 * rows,
    },
  );
});

test("where there is nothing to do, nothing is locked that anyone holds or waits for", async () => {
  await db.keep(today);
  const other = await sql.reserve();
  try {
    await other`BEGIN`;
    await other`LOCK TABLE request_logs, method_rollups, key_rollups IN SHARE ROW EXCLUSIVE MODE NOWAIT`;
    await other`ROLLBACK`;
    await other`BEGIN`;
    for (const table of ["request_logs", "method_rollups", "key_rollups"]) {
      await other`LOCK TABLE ${other(table)} IN ROW EXCLUSIVE MODE`;
    }
    await db.keep(today);
    await db.keep(new Date(today.getTime() + 60_000));
  } finally {
    await other`ROLLBACK`;
    other.release();
  }
});

test("one keeps them at a time: the others leave it at that", async () => {
  const other = await sql.reserve();
  try {
    await other`SELECT pg_advisory_lock(7270951825)`;
    await db.insertRows(later(0), 10);
    await Promise.all([0, 1, 2, 3].map((n) => db.keep(today, {}, n)));
    assert.deepEqual(await db.partitions(), ["request_logs_default"]);
  } finally {
    await other`SELECT pg_advisory_unlock(7270951825)`;
    other.release();
  }
  await db.keep(today);
  assert.deepEqual(await db.partitions(), [...days(0, 7), "request_logs_default"]);
});
