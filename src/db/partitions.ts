/** Keeps the partitions: made ahead, dropped when old, and rows that came to lie outside of them moved in. */
import { sql } from "drizzle-orm";
import { alone } from "./alone.ts";
import { type Database, type Executor, sqlState } from "./client.ts";
import type { Clocks } from "./clocks.ts";
import { defaultPartition, partitionsOf } from "./partition-catalog.ts";
import { drainStrays, sweepOld } from "./partition-drain.ts";
import { makePartitions } from "./partition-make.ts";
import {
  type PartitionedTable,
  partitionedTables,
  partitionName,
  type Retention,
  unitStart,
} from "./partitioned-tables.ts";

const dayMs = 86_400_000;

export interface PartitionsOptions extends Retention {
  /**
   * Minutes before this are in the hours and days for good; undefined: none is. No
   * younger ones are dropped, however old. Asked on the connection that it is given.
   */
  foldedUntil: (db: Executor) => Promise<Date | undefined>;
}

/**
 * Makes the partitions that are missing now, of each table. Resolves at once while
 * another instance is at it. Rejects, with the rest done, where another transaction held
 * what it needed: nothing is half done then, and the next call does it.
 */
export async function makeMissing(db: Database, options: PartitionsOptions, clocks: Clocks): Promise<void> {
  await each(partitionedTables(options), async (table) => {
    await makePartitions(db, table, clocks.now.getTime(), retainedFrom(table, clocks));
  });
}

/**
 * Makes what is missing, drops what is old and moves what was set aside, until it is
 * done or `stopped`. As {@link makeMissing} otherwise.
 */
export async function keepPartitions(
  db: Database,
  options: PartitionsOptions,
  clocks: Clocks,
  stopped: () => boolean = () => false,
): Promise<void> {
  const tables = partitionedTables(options);
  const oldestOf = async (tx: Executor, table: PartitionedTable) => {
    const oldest = retainedFrom(table, clocks);
    if (table.periodS !== 60) return oldest;
    const folded = await options.foldedUntil(tx);
    return Math.min(oldest, folded === undefined ? 0 : unitStart(table, folded.getTime()));
  };
  // The longest comes last: all have their partitions by then.
  await all([
    () => makeMissing(db, options, clocks),
    () => each(tables, (table) => dropOld(db, table, oldestOf)),
    () =>
      each(tables, async (table) =>
        sweepOld(db, table, defaultPartition(table), await oldestOf(db, table), stopped),
      ),
    () => each(tables, (table) => drainStrays(db, table, retainedFrom(table, clocks), stopped)),
  ]);
}

/** The start of the oldest unit that has rows to be kept. */
function retainedFrom(table: PartitionedTable, { earliest }: Clocks): number {
  return unitStart(table, earliest.getTime() - table.keepDays * dayMs);
}

/** Each in a transaction of its own: to drop one locks the whole table, though only for a moment. */
async function dropOld(
  db: Database,
  table: PartitionedTable,
  oldestOf: (tx: Executor, table: PartitionedTable) => Promise<number>,
): Promise<void> {
  const firstOld = async (tx: Executor) => {
    const name = partitionName(table, await oldestOf(tx, table));
    return (await partitionsOf(tx, table)).ours.find((ours) => ours < name);
  };
  const dropOne = async (tx: Executor) => {
    if ((await firstOld(tx)) === undefined) return false;
    await tx.execute(sql`LOCK TABLE ONLY ${sql.identifier(table.name)} IN ACCESS EXCLUSIVE MODE`);
    // Again, now that no writer is under way who may have marked an hour of it as late.
    const name = await firstOld(tx);
    if (name !== undefined) await tx.execute(sql`DROP TABLE ${sql.identifier(name)}`);
    return true;
  };
  while (await alone(db, dropOne));
}

async function each(tables: PartitionedTable[], run: (table: PartitionedTable) => Promise<void>) {
  await all(tables.map((table) => () => run(table)));
}

/** One after the other, those after one that Postgres refused too; then rejects with the first failure. */
async function all(steps: (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    await step().catch((error: unknown) => {
      // The database is not there, or about to go: no need to find that out for each.
      if (/^(08|57P)/.test(sqlState(error) ?? "08")) throw error;
      failures.push(error);
    });
  }
  if (failures.length > 0) throw failures[0];
}
