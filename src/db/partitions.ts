/** The days of the request log: made ahead, dropped when old. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";

type Transaction = Pick<Database, "execute">;

/** Partitions are made this many days ahead. */
const daysAhead = 7;
const dayMs = 86_400_000;
/** Any number, the same in every instance: one of them keeps the partitions at a time. */
const partitionLock = 7_270_951_825;

/**
 * Makes the partitions of today and the days ahead and drops those older than the
 * retention. Does nothing while another instance is at it. A day is in UTC.
 * Rejects, having done nothing by halves, where a transaction holds the log for
 * more than a second: rather try again at the next turn than make every writer
 * queue up behind this.
 */
export async function keepPartitions(db: Database, retentionDays: number, now: Date): Promise<void> {
  const today = Math.floor(now.getTime() / dayMs) * dayMs;
  // In two transactions: making locks the default partition and then the log, dropping the log and then a partition.
  await alone(db, (tx) => makeDays(tx, today));
  await alone(db, (tx) => dropDays(tx, partitionName(today - retentionDays * dayMs)));
}

async function alone(db: Database, run: (tx: Transaction) => Promise<void>): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`SET LOCAL lock_timeout = '1s'`);
    const [lock] = await tx.execute<{ held: boolean }>(
      sql`SELECT pg_try_advisory_xact_lock(${partitionLock}) AS held`,
    );
    if (lock?.held) await run(tx);
  });
}

async function makeDays(tx: Transaction, today: number): Promise<void> {
  const existing = new Set((await partitions(tx)).map(({ name }) => name));
  for (let day = today; day <= today + daysAhead * dayMs; day += dayMs) {
    const name = partitionName(day);
    if (!existing.has(name)) await makeDay(tx, name, day);
  }
}

/** Makes a day's partition and moves into it what the default partition has of that day: Postgres would refuse it otherwise. */
async function makeDay(tx: Transaction, name: string, day: number): Promise<void> {
  const partition = sql.identifier(name);
  // Literals: DDL takes no parameters. They are made here from a number.
  const [from, to] = [day, day + dayMs].map((ms) => sql.raw(`'${new Date(ms).toISOString()}'`));
  await tx.execute(sql`LOCK TABLE request_logs_default IN ACCESS EXCLUSIVE MODE`);
  await tx.execute(sql`CREATE TABLE ${partition} (LIKE request_logs INCLUDING ALL)`);
  await tx.execute(sql`
    WITH moved AS (
      DELETE FROM request_logs_default WHERE time >= ${from} AND time < ${to} RETURNING *
    ) INSERT INTO ${partition} SELECT * FROM moved`);
  await tx.execute(
    sql`ALTER TABLE request_logs ATTACH PARTITION ${partition} FOR VALUES FROM (${from}) TO (${to})`,
  );
}

async function dropDays(tx: Transaction, oldest: string): Promise<void> {
  for (const { name, isOurs } of await partitions(tx)) {
    // The names sort as their days do.
    if (isOurs && /^request_logs_\d{8}$/.test(name) && name < oldest) {
      await tx.execute(sql`DROP TABLE ${sql.identifier(name)}`);
    }
  }
}

/** E.g. "request_logs_20261124". */
function partitionName(dayMsSinceEpoch: number): string {
  return `request_logs_${new Date(dayMsSinceEpoch).toISOString().slice(0, 10).replaceAll("-", "")}`;
}

/** A partition of another schema is one that an operator put away. */
async function partitions(tx: Transaction): Promise<{ name: string; isOurs: boolean }[]> {
  return tx.execute<{ name: string; isOurs: boolean }>(sql`
    SELECT c.relname AS name, c.relnamespace = parent.relnamespace AS "isOurs"
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class parent ON parent.oid = i.inhparent
    WHERE parent.oid = 'request_logs'::regclass`);
}
