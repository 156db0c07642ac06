/** A database whose partitions are kept at times of a test's choosing, and a look at where its rows are. */
import type postgres from "postgres";
import { connect, database } from "../../src/db/client.ts";
import { keepPartitions, type PartitionsOptions } from "../../src/db/partitions.ts";
import { foldedUntil } from "../../src/usage/fold-store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";

const dayMs = 86_400_000;
export const today = new Date("2031-03-30T13:14:15.926Z");
export const later = (days: number) => new Date(today.getTime() + days * dayMs);

/** The name of the request log's partition of a day so many days from today. */
export const dayName = (days: number) =>
  `request_logs_${later(days).toISOString().slice(0, 10).replaceAll("-", "")}`;
export const days = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, n) => dayName(from + n));

export interface Partitioned {
  readonly url: string;
  readonly sql: postgres.Sql;
  /** Keeps them as one of some instances, each with a connection of its own. */
  keep(now: Date, options?: Partial<PartitionsOptions>, instance?: number): Promise<void>;
  /** The names of a table's partitions; of another schema with its name. */
  partitions(table?: string): Promise<string[]>;
  /** The former default partitions that are not drained yet. */
  strays(): Promise<string[]>;
  /** Rows by partition. */
  places(table?: string): Promise<Record<string, number>>;
  insertRow(time: Date | string): Promise<void>;
  /** Rows of the request log, one after the other. */
  insertRows(from: Date, count: number, everyMs?: number): Promise<void>;
  /** As a new database is: empty, with the default partitions alone. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

export async function openPartitioned(instances = 1): Promise<Partitioned> {
  const url = await createTestDatabase("made-up");
  const sql = openSql(url);
  const clients = Array.from({ length: instances }, () =>
    connect({ url }, { max: 1, purpose: "partitions", statementTimeoutMs: 10_000 }),
  );
  const insert = (times: postgres.Fragment) => sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id, instance_id)
    SELECT time, gen_random_uuid(), 'a.B', 'C', 'grpc', 0, 'none', 1, 'r', gen_random_uuid() FROM ${times}`;
  return {
    url,
    sql,
    keep: (now, options = {}, instance = 0) =>
      keepPartitions(
        database(clients[instance]!),
        { logRetentionDays: 30, statsRetentionDays: 400, foldedUntil, ...options },
        { now, earliest: now },
      ),
    async partitions(table = "request_logs") {
      const rows = await sql`SELECT inhrelid::regclass::text AS name FROM pg_inherits
        WHERE inhparent = ${table}::regclass ORDER BY 1`;
      return rows.map(({ name }) => name);
    },
    async strays() {
      const rows = await sql`SELECT relname FROM pg_class WHERE relname ~ '_stray_[0-9]+$' ORDER BY 1`;
      return rows.map(({ relname }) => relname);
    },
    async places(table = "request_logs") {
      const rows = await sql`SELECT tableoid::regclass::text AS name, count(*)::int AS n FROM ${sql(table)}
        GROUP BY 1`;
      return Object.fromEntries(rows.map(({ name, n }) => [name, n]));
    },
    async insertRow(time) {
      await insert(
        sql`(VALUES (${String(time instanceof Date ? time.toISOString() : time)}::timestamptz)) AS one (time)`,
      );
    },
    async insertRows(from, count, everyMs = 1000) {
      await insert(
        sql`(SELECT ${from.toISOString()}::timestamptz + n * ${everyMs}::int * interval '1 ms' FROM generate_series(0, ${count - 1}::int) n) AS many (time)`,
      );
    },
    async reset() {
      const made = await sql`SELECT oid::regclass::text AS name FROM pg_class
        WHERE relkind = 'r' AND (relispartition AND relname !~ '_default$' OR relname ~ '_stray_[0-9]+$')`;
      for (const { name } of made) await sql`DROP TABLE ${sql(name)}`;
      await sql`TRUNCATE request_logs, method_rollups, key_rollups, rollup_late_hours`;
      await sql`UPDATE rollup_progress SET folded_until = NULL`;
    },
    async close() {
      await Promise.all([sql, ...clients].map((client) => client.end()));
    },
  };
}
