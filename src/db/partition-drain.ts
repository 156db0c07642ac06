/** Moves the rows of strays, former default partitions, to where they belong, and sweeps out old rows. */
import { setTimeout as sleep } from "node:timers/promises";
import { type SQL, sql } from "drizzle-orm";
import { alone } from "./alone.ts";
import { type Database, type Executor, sqlState } from "./client.ts";
import { mergeByAdding } from "./merge-rollups.ts";
import { samePeriod, sharedColumns, straysOf } from "./partition-catalog.ts";
import type { PartitionedTable } from "./partitioned-tables.ts";

/** Rows a transaction. A writer may wait for one that merges, which therefore has fewer. */
const rowsMoved = { none: 5000, add: 1000, keep: 1000 };
const rowsSwept = 5000;
/** Until the next try, while another instance is in a transaction of its housekeeping. */
const pauseMs = 50;
const undefinedTable = "42P01";

/**
 * Moves all rows of a table's strays into the table, some thousand a transaction, and
 * drops each stray that is empty. Where it was stopped, or its process killed, the next
 * one goes on. Several may be at it at once, by turns. A row that no partition takes
 * goes to the default one again.
 */
export async function drainStrays(
  db: Database,
  table: PartitionedTable,
  oldest: number,
  stopped: () => boolean,
): Promise<void> {
  for (const stray of await straysOf(db, table)) {
    try {
      // Not minutes: those of a stray may never have been folded, whatever was folded meanwhile.
      if (table.onMoved !== "add") await sweepOld(db, table, stray, oldest, stopped);
      await drain(db, table, stray, stopped);
    } catch (error) {
      const isGone = sqlState(error) === undefinedTable && !(await straysOf(db, table)).includes(stray);
      if (!isGone) throw error;
    }
  }
}

/** Until it is dropped or `stopped`; rejects where another has dropped it. */
async function drain(
  db: Database,
  table: PartitionedTable,
  stray: string,
  stopped: () => boolean,
): Promise<void> {
  // From where the last one ended: what was deleted before that is still in the index.
  let from: string | undefined;
  while (!stopped()) {
    const moved = await alone(db, (tx) => moveRows(tx, table, stray, rowsMoved[table.onMoved], from));
    if (moved === undefined) {
      // Whoever it is may be at something else: readers miss these rows until somebody moves them.
      await sleep(pauseMs);
    } else if (moved.last === null) {
      if (await alone(db, (tx) => dropIfEmpty(tx, stray))) return;
    } else {
      from = moved.last;
    }
  }
}

/**
 * Moves the first rows of a stray, from an instant on, at most so many; answers with the
 * instant of the last. What comes into sight by it may have been missed by the fold: the
 * hours of minutes, and those of hours, for the sake of their day, are marked to be folded
 * again.
 */
export async function moveRows(
  tx: Executor,
  table: PartitionedTable,
  stray: string,
  limit: number,
  from?: string,
): Promise<{ last: string | null }> {
  const parent = sql.identifier(table.name);
  const column = sql.identifier(table.column);
  const columns = await sharedColumns(tx, stray, table.name);
  const key = sql.raw(table.key.join(", "));
  const onConflict: Record<PartitionedTable["onMoved"], SQL> = {
    none: sql``,
    add: sql`ON CONFLICT (${key}) DO UPDATE SET ${mergeByAdding(sql`${parent}`)}`,
    keep: sql`ON CONFLICT (${key}) DO NOTHING`,
  };
  const [moved] = await tx.execute<{ last: string | null }>(sql`
    WITH moved AS (
      DELETE FROM ${sql.identifier(stray)} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM ${sql.identifier(stray)}
        WHERE ${samePeriod(table)} AND ${from === undefined ? sql`true` : sql`${column} >= ${from}::timestamptz`}
        ORDER BY ${column} LIMIT ${limit}))
      RETURNING ${columns}
    ), put AS (
      INSERT INTO ${parent} (${columns}) SELECT ${columns} FROM moved ORDER BY ${key} ${onConflict[table.onMoved]}
    )${
      table.periodS === 60 || table.periodS === 3600
        ? sql`, late AS (
      INSERT INTO rollup_late_hours (hour) SELECT DISTINCT date_trunc('hour', bucket, 'UTC') FROM moved
    )`
        : sql``
    }
    SELECT max(${column})::text AS last FROM moved`);
  return { last: moved?.last ?? null };
}

/** Deletes the rows of a default partition or a stray that are from before `oldest`. */
export async function sweepOld(
  db: Database,
  table: PartitionedTable,
  relation: string,
  oldest: number,
  stopped: () => boolean,
): Promise<void> {
  const column = sql.identifier(table.column);
  while (!stopped()) {
    const rows = await alone(db, (tx) =>
      tx.execute(sql`
        DELETE FROM ${sql.identifier(relation)} WHERE ctid = ANY (ARRAY(
          SELECT ctid FROM ${sql.identifier(relation)}
          WHERE ${samePeriod(table)} AND ${column} < ${new Date(oldest).toISOString()}::timestamptz
          ORDER BY ${column} LIMIT ${rowsSwept}))`),
    );
    if (rows === undefined || rows.count < rowsSwept) return;
  }
}

/** Nobody writes to a stray. */
export async function dropIfEmpty(tx: Executor, stray: string): Promise<true> {
  const name = sql.identifier(stray);
  const [row] = await tx.execute(sql`SELECT FROM ${name} LIMIT 1`);
  if (row === undefined) await tx.execute(sql`DROP TABLE ${name}`);
  return true;
}
