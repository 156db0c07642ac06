/** How a rollup row is merged into one of the same key: by adding. */
import { type SQL, sql } from "drizzle-orm";

/**
 * The end of an `INSERT INTO <table> …` of rollup rows: one that is there already is
 * added to. Insert in the order of the primary key, as every writer does, or two that
 * merge the same rows deadlock.
 */
export function addToExisting(table: SQL, primaryKey: SQL): SQL {
  return sql`
    ON CONFLICT (${primaryKey}) DO UPDATE SET
      requests = ${table}.requests + excluded.requests,
      duration_us = ${table}.duration_us + excluded.duration_us,
      request_bytes = ${table}.request_bytes + excluded.request_bytes,
      response_bytes = ${table}.response_bytes + excluded.response_bytes,
      latency = (
        SELECT array_agg(coalesce(a, 0) + coalesce(b, 0) ORDER BY n)
        FROM unnest(${table}.latency, excluded.latency) WITH ORDINALITY AS counts (a, b, n)
      )`;
}
