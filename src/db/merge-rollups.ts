/** How a rollup row is merged into one of the same key: by adding. */
import { type SQL, sql } from "drizzle-orm";

/**
 * What a row of a rollup becomes that is there already, for `ON CONFLICT (<primary key>)
 * DO UPDATE SET`. Insert in the order of the primary key, as every writer does, or two
 * that merge the same rows deadlock.
 */
export function mergeByAdding(table: SQL): SQL {
  return sql`
    requests = ${table}.requests + excluded.requests,
    duration_us = ${table}.duration_us + excluded.duration_us,
    request_bytes = ${table}.request_bytes + excluded.request_bytes,
    response_bytes = ${table}.response_bytes + excluded.response_bytes,
    latency = (
      SELECT array_agg(coalesce(a, 0) + coalesce(b, 0) ORDER BY n)
      FROM unnest(${table}.latency, excluded.latency) WITH ORDINALITY AS counts (a, b, n)
    )`;
}
