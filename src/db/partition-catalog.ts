/** What there is of a partitioned table: its partitions, its strays, and the units that their rows lie in. */
import { type SQL, sql } from "drizzle-orm";
import type { Executor } from "./client.ts";
import { isPartitionName, type PartitionedTable, unitStart } from "./partitioned-tables.ts";

export function defaultPartition(table: PartitionedTable): string {
  return `${table.name}_default`;
}

/**
 * Of a table's partitions the ones that were made by us, the oldest first, and every name
 * that is taken: by a partition, be it in another schema, where an operator put it away, or
 * by a table that is none, as one that an operator detached.
 */
export async function partitionsOf(
  db: Executor,
  table: PartitionedTable,
): Promise<{ ours: string[]; taken: Set<string> }> {
  const rows = await db.execute<{ name: string; attached: boolean; here: boolean }>(sql`
    SELECT c.relname AS name, i.inhrelid IS NOT NULL AS attached, c.relnamespace = parent.relnamespace AS here
    FROM pg_class parent CROSS JOIN pg_class c
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = parent.oid
    WHERE parent.oid = ${table.name}::regclass AND starts_with(c.relname, ${`${table.name}_`})
      AND (i.inhrelid IS NOT NULL OR c.relnamespace = parent.relnamespace)
    ORDER BY 1`);
  return {
    ours: rows
      .filter(({ name, attached, here }) => attached && here && isPartitionName(table, name))
      .map(({ name }) => name),
    taken: new Set(rows.map(({ name }) => name)),
  };
}

/** The former default partitions that still hold rows, as `partition-make.ts` names them; the oldest first. */
export async function straysOf(db: Executor, table: PartitionedTable): Promise<string[]> {
  const rows = await db.execute<{ name: string }>(sql`
    SELECT c.relname AS name FROM pg_class c JOIN pg_class parent ON parent.relnamespace = c.relnamespace
    WHERE parent.oid = ${table.name}::regclass AND c.relkind = 'r' AND NOT c.relispartition
      AND c.relname ~ ${`^${table.name}_stray_[0-9]{1,9}$`}
    ORDER BY length(c.relname), c.relname`);
  return rows.map(({ name }) => name);
}

/** The columns that two tables have both. A stray may be older than a migration. */
export async function sharedColumns(db: Executor, table: string, other: string): Promise<SQL> {
  const rows = await db.execute<{ name: string }>(sql`
    SELECT attname AS name FROM pg_attribute a
    WHERE attrelid = ${table}::regclass AND attnum > 0 AND NOT attisdropped AND EXISTS (
      SELECT FROM pg_attribute b
      WHERE b.attrelid = ${other}::regclass AND b.attname = a.attname AND b.attnum > 0 AND NOT b.attisdropped)
    ORDER BY attnum`);
  return sql.join(
    rows.map(({ name }) => sql.identifier(name)),
    sql`, `,
  );
}

/** The condition that all rows of a table fulfil, for the sake of its indexes. */
export function samePeriod(table: PartitionedTable): SQL {
  return table.periodS === undefined ? sql`true` : sql`period_s = ${sql.raw(String(table.periodS))}`;
}

/** The starts of the units between two instants that a relation has rows of: a look at its index for each. */
export async function unitsIn(
  db: Executor,
  table: PartitionedTable,
  relation: string,
  from: number,
  until: number,
): Promise<number[]> {
  const column = sql.identifier(table.column);
  const units: number[] = [];
  for (let at = from; ; ) {
    const [row] = await db.execute<{ ms: number }>(sql`
      SELECT (extract(epoch FROM ${column}) * 1000)::float8 AS ms FROM ${sql.identifier(relation)}
      WHERE ${samePeriod(table)} AND ${column} >= ${new Date(at).toISOString()}::timestamptz
        AND ${column} < ${new Date(until).toISOString()}::timestamptz
      ORDER BY ${column} LIMIT 1`);
    if (row === undefined) return units;
    const unit = unitStart(table, row.ms);
    units.push(unit);
    at = unitStart(table, unit, 1);
  }
}

/** Bytes of a relation's rows, dead ones too: what a scan of it reads. */
export async function sizeOf(db: Executor, relation: string): Promise<number> {
  const [row] = await db.execute<{ bytes: number }>(
    sql`SELECT pg_relation_size(${relation}::regclass)::float8 AS bytes`,
  );
  return row?.bytes ?? 0;
}
