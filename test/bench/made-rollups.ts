/** The rollups by the minute of rows that were made, as the writer of usage would have counted them. */
import { type SQL, sql } from "drizzle-orm";
import type { Database } from "../../src/db/client.ts";
import { bucketCount } from "../../src/usage/histogram.ts";
import { columns, dimensionsOf, timestamp } from "../../src/usage/rollup-sql.ts";
import { noKey } from "../../src/usage/totals.ts";

/** What `bucketOf` of usage/histogram.ts is, in SQL. */
const latencyBucket = sql`
  CASE WHEN duration_us <= 64 THEN 0
    ELSE least(${sql.raw(String(bucketCount - 1))}, ceil(ln(duration_us / 64::float8) / ln(1.2::float8))::int) END`;

/** Makes the minutes of the rows whose time is `fromMs` to `toMs` (exclusive): whole minutes, and none that is there already. */
export async function makeMinutes(db: Database, fromMs: number, toMs: number): Promise<void> {
  const rows = sql`SELECT * FROM request_logs WHERE time >= ${timestamp(fromMs)} AND time < ${timestamp(toMs)}`;
  await db.execute(rollUp("method", rows));
  await db.execute(rollUp("key", sql`${rows} AND user_id IS NOT NULL`));
}

/** Counts by latency bucket first, then lists these counts. Most rollups of a key are of one row. */
function rollUp(by: "method" | "key", rows: SQL): SQL {
  const of = sql`bucket, ${columns(dimensionsOf[by])}`;
  return sql`
    INSERT INTO ${sql.identifier(`${by}_rollups`)} (period_s, ${of}, requests, duration_us, request_bytes, response_bytes, latency)
    SELECT 60, ${of}, requests, duration_us, request_bytes, response_bytes,
      CASE WHEN cardinality(ordinals) = 1 THEN array_fill(0, ARRAY[longest]) || counts ELSE ARRAY(
        SELECT coalesce(count, 0) FROM generate_series(0, longest) AS n
          LEFT JOIN unnest(ordinals, counts) AS counted (ordinal, count) ON ordinal = n
        ORDER BY n) END
    FROM (
      SELECT ${of}, sum(requests) AS requests, sum(duration_us) AS duration_us, sum(request_bytes) AS request_bytes,
        sum(response_bytes) AS response_bytes, max(ordinal) AS longest, array_agg(ordinal) AS ordinals,
        array_agg(requests::int) AS counts
      FROM (
        SELECT ${of}, ordinal, count(*) AS requests, sum(duration_us) AS duration_us,
          coalesce(sum(request_bytes), 0) AS request_bytes, coalesce(sum(response_bytes), 0) AS response_bytes
        FROM (
          SELECT date_trunc('minute', time, 'UTC') AS bucket, service, method, code,
            coalesce(denial_reason, '') AS denial_reason, coalesce(api_key_id, ${noKey}::uuid) AS api_key_id, user_id,
            duration_us, request_bytes, response_bytes, ${latencyBucket} AS ordinal
          FROM (${rows}) AS log
        ) AS call
        GROUP BY ${of}, ordinal
      ) AS by_ordinal
      GROUP BY ${of}
    ) AS summed`;
}
