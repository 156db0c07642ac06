/** Pieces of SQL over rollups, which several statements are made of. */
import { type SQL, sql } from "drizzle-orm";
import type { keyRollups, methodRollups } from "../db/schema.ts";
import type { Piece } from "./range.ts";

export type RollupTable = typeof methodRollups | typeof keyRollups;

/** What a rollup is of, beside its period and bucket. */
export const dimensionsOf = {
  method: ["service", "method", "code", "denial_reason"],
  key: ["api_key_id", "user_id", "service", "method", "code", "denial_reason"],
} as const;

/** Columns by their names. */
export function columns(names: readonly string[]): SQL {
  return sql.join(
    names.map((name) => sql.identifier(name)),
    sql`, `,
  );
}

/** A time as Postgres takes it. */
export function timestamp(ms: number): SQL {
  return sql`${new Date(ms).toISOString()}::timestamptz`;
}

/**
 * The rollups of some pieces, each by itself, so that Postgres sees in each which
 * partition and which part of an index it is. No piece is no row.
 *
 * @param where a further condition
 */
export function rollupsOf(table: RollupTable, pieces: readonly Piece[], where: SQL = sql`true`): SQL {
  if (pieces.length === 0) return sql`SELECT * FROM ${table} WHERE false`;
  return sql.join(
    pieces.map(
      ({ periodS, startMs, endMs }) => sql`
        SELECT * FROM ${table} WHERE period_s = ${periodS}
          AND bucket >= ${timestamp(startMs)} AND bucket < ${timestamp(endMs)} AND ${where}`,
    ),
    sql` UNION ALL `,
  );
}

/**
 * Sums rollups up, latency counts bucket by bucket: a row for each value of the
 * columns `by`, which must be columns of `from`; without any, one row where there
 * is anything. Gives those columns, requests, errors, denials, duration_us,
 * request_bytes, response_bytes and latency (bigint[]).
 *
 * In one reading: a rollup is taken apart into its latency counts, and the first of
 * these stands for its other numbers. Of the rest, those that are 0 are left out on
 * the way: of most there are only a few others.
 */
export function summedRollups(from: SQL, by: readonly string[]): SQL {
  const of = by.length === 0 ? sql`` : sql`${columns(by)}, `;
  return sql`
    SELECT ${of}requests, errors, denials, duration_us, request_bytes, response_bytes, ARRAY(
        SELECT coalesce(count, 0) FROM generate_series(1, longest) AS n
          LEFT JOIN unnest(ordinals, counts) AS counted (ordinal, count) ON ordinal = n
        ORDER BY n
      ) AS latency
    FROM (
      SELECT ${of}sum(requests) AS requests, coalesce(sum(errors), 0) AS errors, coalesce(sum(denials), 0) AS denials,
        sum(duration_us) AS duration_us, sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes,
        max(ordinal) AS longest, array_agg(ordinal) AS ordinals, array_agg(count) AS counts
      FROM (
        SELECT ${of}ordinal, sum(count) AS count,
          sum(requests) FILTER (WHERE ordinal = 1) AS requests,
          sum(requests) FILTER (WHERE ordinal = 1 AND code <> 0) AS errors,
          sum(requests) FILTER (WHERE ordinal = 1 AND denial_reason <> '') AS denials,
          sum(duration_us) FILTER (WHERE ordinal = 1) AS duration_us,
          sum(request_bytes) FILTER (WHERE ordinal = 1) AS request_bytes,
          sum(response_bytes) FILTER (WHERE ordinal = 1) AS response_bytes
        FROM (${from}) AS rollup
          CROSS JOIN LATERAL unnest(coalesce(nullif(latency, '{}'), '{0}')) WITH ORDINALITY AS counted (count, ordinal)
        WHERE count <> 0 OR ordinal = 1
        GROUP BY ${of}ordinal
      ) AS by_ordinal
      ${by.length === 0 ? sql`HAVING count(*) > 0` : sql`GROUP BY ${columns(by)}`}
    ) AS summed`;
}

/** What a row becomes that is there already: the new one. For ON CONFLICT DO UPDATE SET. */
export const mergeByReplacing: SQL = sql.raw(
  ["requests", "duration_us", "request_bytes", "response_bytes", "latency"]
    .map((column) => `${column} = excluded.${column}`)
    .join(", "),
);
