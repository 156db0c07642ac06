/** Makes the partitions that are missing, whatever the default partition holds. */
import { sql } from "drizzle-orm";
import { alone } from "./alone.ts";
import type { Database, Executor } from "./client.ts";
import { defaultPartition, partitionsOf, sizeOf, straysOf, unitsIn } from "./partition-catalog.ts";
import { dropIfEmpty, moveRows } from "./partition-drain.ts";
import { type PartitionedTable, partitionName, unitStart } from "./partitioned-tables.ts";

/** As many at once as take some tenths of a second, for which the table is locked. */
const unitsAtOnce = 16;
/** To attach a partition, Postgres scans the default one, which meanwhile no one reads: this much takes some hundredths of a second. */
const scannableBytes = 16 * 1024 * 1024;
/** Of a default partition that is replaced, so many rows are moved in the same transaction: most often all, and no reader misses one. */
const rowsMovedAtOnce = 1000;

/**
 * Makes the partitions of the unit of `now` and of those around it, and of each unit since
 * `oldest` that has rows in the default partition, as after a clock jump, a long stop, or
 * a call that was recorded late. Takes no lock that anyone waits for where none is missing.
 *
 * Postgres attaches no partition of which the default one has rows. Then the default
 * partition is replaced by an empty one, in a transaction that takes as long whatever it
 * holds, and left as a stray, `<table>_stray_<n>`, for {@link drainStrays}. Until that
 * has moved them, readers do not see its rows.
 */
export async function makePartitions(
  db: Database,
  table: PartitionedTable,
  now: number,
  oldest: number,
): Promise<void> {
  while (await alone(db, (tx) => makeSome(tx, table, now, oldest)));
}

/** Whether there are more to make. */
async function makeSome(
  tx: Executor,
  table: PartitionedTable,
  now: number,
  oldest: number,
): Promise<boolean> {
  const end = unitStart(table, now, table.ahead + 1);
  const misplaced = await unitsIn(tx, table, defaultPartition(table), oldest, end);
  const wanted = Array.from({ length: table.ahead + 1 }, (_, n) => unitStart(table, now, n));
  for (let n = -1; n >= -table.behind; n--) wanted.push(unitStart(table, now, n));
  wanted.push(...misplaced);
  for (const stray of await straysOf(tx, table)) {
    wanted.push(...(await unitsIn(tx, table, stray, oldest, end)));
  }
  const { taken } = await partitionsOf(tx, table);
  const missing = [...new Set(wanted)].filter(
    (unit) => unit >= oldest && !taken.has(partitionName(table, unit)),
  );
  if (missing.length === 0) return false;

  const replaced =
    misplaced.length > 0 || (await sizeOf(tx, defaultPartition(table))) > scannableBytes
      ? await nextStray(tx, table)
      : undefined;
  // All that takes longer comes before the first lock: no one knows these tables yet.
  const units = missing.slice(0, unitsAtOnce);
  for (const unit of units) await createLike(tx, table, partitionName(table, unit));
  const parent = sql.identifier(table.name);
  if (replaced === undefined) await tx.execute(sql`LOCK TABLE ONLY ${parent} IN SHARE UPDATE EXCLUSIVE MODE`);
  else await replaceDefault(tx, table, replaced);
  for (const unit of units) {
    // Literals: DDL takes no parameters. They are made here from numbers.
    const [from, to] = [unit, unitStart(table, unit, 1)].map((ms) =>
      sql.raw(`'${new Date(ms).toISOString()}'`),
    );
    await tx.execute(
      sql`ALTER TABLE ${parent} ATTACH PARTITION ${sql.identifier(partitionName(table, unit))}
        FOR VALUES FROM (${from}) TO (${to})`,
    );
  }
  if (replaced !== undefined) {
    await moveRows(tx, table, replaced, rowsMovedAtOnce);
    await dropIfEmpty(tx, replaced);
  }
  return units.length < missing.length;
}

/**
 * Puts an empty default partition in the place of the one that is there. Locks the
 * table before its partition, as everyone does who reads or writes by way of the table.
 */
async function replaceDefault(tx: Executor, table: PartitionedTable, stray: string): Promise<void> {
  const parent = sql.identifier(table.name);
  const current = sql.identifier(defaultPartition(table));
  const next = sql.identifier(`${defaultPartition(table)}_next`);
  await createLike(tx, table, `${defaultPartition(table)}_next`);
  await tx.execute(sql`LOCK TABLE ONLY ${parent} IN ACCESS EXCLUSIVE MODE`);
  await tx.execute(sql`ALTER TABLE ${parent} DETACH PARTITION ${current}`);
  await tx.execute(sql`ALTER TABLE ${current} RENAME TO ${sql.identifier(stray)}`);
  await tx.execute(sql`ALTER TABLE ${next} RENAME TO ${current}`);
  await tx.execute(sql`ALTER TABLE ${parent} ATTACH PARTITION ${current} DEFAULT`);
}

async function createLike(tx: Executor, table: PartitionedTable, name: string): Promise<void> {
  await tx.execute(
    sql`CREATE TABLE ${sql.identifier(name)} (LIKE ${sql.identifier(table.name)} INCLUDING ALL)`,
  );
}

async function nextStray(tx: Executor, table: PartitionedTable): Promise<string> {
  const newest = (await straysOf(tx, table)).at(-1)?.slice(`${table.name}_stray_`.length) ?? "0";
  return `${table.name}_stray_${Number(newest) + 1}`;
}
