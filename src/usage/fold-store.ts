/** The fold's statements: rollups of a longer period made of a shorter one's, and how far that has come. */
import { type SQL, sql } from "drizzle-orm";
import type { Database, Executor } from "../db/client.ts";
import { keyRollups, methodRollups, rollupLateHours, rollupProgress, rollupTops } from "../db/schema.ts";
import { dayMs, type Folded, floorTo, hourMs, minuteMs, refoldedMs, type TimeRange, widen } from "./range.ts";
import {
  columns,
  dimensionsOf,
  mergeByReplacing,
  rollupsOf,
  summedRollups,
  timestamp,
} from "./rollup-sql.ts";
import { noKey } from "./totals.ts";

/** Rows of a kind in `rollup_tops` for each hour and day. */
export const topsKept = 500;

/** Folds an hour from its minutes, in place of what was there. */
export function foldHour(tx: Executor, hour: number): Promise<void> {
  return fold(tx, { bucketMs: hour, from: minuteMs, to: hourMs });
}

/** Folds a day from its hours, in place of what was there. */
export function foldDay(tx: Executor, day: number): Promise<void> {
  return fold(tx, { bucketMs: day, from: hourMs, to: dayMs });
}

/** `from` and `to` are the lengths of the periods. */
async function fold(tx: Executor, { bucketMs, from, to }: { bucketMs: number; from: number; to: number }) {
  for (const [table, dimensions, primaryKey] of [
    [methodRollups, dimensionsOf.method, "period_s, bucket, service, method, code, denial_reason"],
    [
      keyRollups,
      dimensionsOf.key,
      "api_key_id, user_id, period_s, bucket, service, method, code, denial_reason",
    ],
  ] as const) {
    const source = rollupsOf(table, [{ periodS: from / 1000, startMs: bucketMs, endMs: bucketMs + to }]);
    // A count that its column cannot hold must not stop the fold for ever.
    await tx.execute(sql`
      INSERT INTO ${table} (period_s, bucket, ${columns(dimensions)}, requests, duration_us, request_bytes,
        response_bytes, latency)
      SELECT ${to / 1000}::int, ${timestamp(bucketMs)}, ${columns(dimensions)}, requests, duration_us, request_bytes,
        response_bytes, ARRAY(
          SELECT least(count, 2147483647)::int FROM unnest(latency) WITH ORDINALITY AS c (count, n) ORDER BY n)
      FROM (${summedRollups(source, dimensions)}) AS summed
      ON CONFLICT (${sql.raw(primaryKey)}) DO UPDATE SET ${mergeByReplacing}`);
  }
  await rankTops(tx, to / 1000, bucketMs);
}

/** Lists the busiest keys and users of an hour or day, in place of the list that was there. */
async function rankTops(tx: Executor, periodS: number, bucketMs: number): Promise<void> {
  await tx.execute(
    sql`DELETE FROM ${rollupTops} WHERE period_s = ${periodS} AND bucket = ${timestamp(bucketMs)}`,
  );
  const of: [string, SQL, SQL][] = [
    ["key", sql`api_key_id`, sql`CASE WHEN api_key_id = ${noKey}::uuid THEN 0 ELSE max(user_id) END`],
    ["user", sql`${noKey}::uuid`, sql`user_id`],
  ];
  for (const [kind, apiKeyId, userId] of of) {
    await tx.execute(sql`
      WITH ranked AS (
        SELECT api_key_id, user_id, requests,
          row_number() OVER (ORDER BY requests DESC, user_id, api_key_id) AS rank
        FROM (
          SELECT ${apiKeyId} AS api_key_id, ${userId} AS user_id, sum(requests) AS requests
          FROM ${keyRollups} WHERE period_s = ${periodS} AND bucket = ${timestamp(bucketMs)}
          GROUP BY ${sql.raw(kind === "key" ? "key_rollups.api_key_id" : "key_rollups.user_id")}
        ) AS counted
      )
      INSERT INTO ${rollupTops} (period_s, bucket, kind, rank, user_id, api_key_id, requests, rest)
      SELECT ${periodS}::int, ${timestamp(bucketMs)}, ${kind}, rank, user_id, api_key_id, requests,
        coalesce((SELECT requests FROM ranked WHERE rank = ${topsKept + 1}), 0)
      FROM ranked WHERE rank <= ${topsKept}`);
  }
}

/** The hour from which on nothing is folded; undefined: nothing is at all. */
export async function readProgress(tx: Executor): Promise<number | undefined> {
  const [row] = await tx.execute<{ ms: string | null }>(
    sql`SELECT ${epochMs(sql`folded_until`)} AS ms FROM ${rollupProgress}`,
  );
  return row?.ms == null ? undefined : Number(row.ms);
}

export async function writeProgress(tx: Executor, foldedUntil: number): Promise<void> {
  await tx.execute(sql`UPDATE ${rollupProgress} SET folded_until = ${timestamp(foldedUntil)}`);
}

/** The hour of the first minute that has a rollup, from a time on; undefined: there is none. */
export async function firstHour(tx: Executor, fromMs?: number): Promise<number | undefined> {
  const [row] = await tx.execute<{ ms: string | null }>(sql`
    SELECT ${epochMs(sql`min(bucket)`)} AS ms FROM ${methodRollups}
    WHERE period_s = 60 AND ${fromMs === undefined ? sql`true` : sql`bucket >= ${timestamp(fromMs)}`}`);
  return row?.ms == null ? undefined : floorTo(hourMs, Number(row.ms));
}

/**
 * Takes the marks of one day's hours that are to be folded again, and strikes those
 * that need not be. Undefined: there are none.
 */
export async function takeLateHours(
  tx: Executor,
  foldedUntil: number,
  nowMs: number,
): Promise<number[] | undefined> {
  // What is not folded yet is folded with all that came; what is too old stays as it is.
  await tx.execute(sql`
    DELETE FROM ${rollupLateHours}
    WHERE hour >= ${timestamp(foldedUntil)} OR hour < ${timestamp(nowMs - refoldedMs)}`);
  const rows = await tx.execute<{ ms: string }>(sql`
    WITH first AS (SELECT min(hour) AS hour FROM ${rollupLateHours})
    DELETE FROM ${rollupLateHours} USING first
    WHERE ${rollupLateHours.hour} >= date_trunc('day', first.hour, 'UTC')
      AND ${rollupLateHours.hour} < date_trunc('day', first.hour, 'UTC') + interval '1 day'
      AND ${rollupLateHours.hour} < ${timestamp(foldedUntil)}
    RETURNING ${epochMs(rollupLateHours.hour)} AS ms`);
  return rows.length === 0 ? undefined : [...new Set(rows.map(({ ms }) => Number(ms)))];
}

/** What is folded within a range. To be read in the snapshot in which the rollups are read. */
export async function readFolded(tx: Executor, range: TimeRange): Promise<Folded> {
  const { startMs, endMs } = widen(range, dayMs);
  const late = await tx.execute<{ ms: string }>(sql`
    SELECT DISTINCT ${epochMs(sql`hour`)} AS ms FROM ${rollupLateHours}
    WHERE hour >= ${timestamp(startMs)} AND hour < ${timestamp(endMs)}
      AND hour >= now() - make_interval(secs => ${refoldedMs / 1000})`);
  return {
    untilMs: (await readProgress(tx)) ?? 0,
    lateHours: new Set(late.map(({ ms }) => Number(ms))),
  };
}

/**
 * Up to when minutes are folded for good, so that they may be dropped; undefined:
 * none is. An hour that waits to be folded again bounds it.
 */
export async function foldedUntil(db: Executor): Promise<Date | undefined> {
  const [row] = await db.execute<{ ms: string | null }>(sql`
    SELECT ${epochMs(sql`least(folded_until, (SELECT min(hour) FROM ${rollupLateHours}))`)} AS ms
    FROM ${rollupProgress} WHERE folded_until IS NOT NULL`);
  return row?.ms == null ? undefined : new Date(Number(row.ms));
}

/** The database's clock. */
export async function readClock(db: Executor): Promise<number> {
  const [row] = await db.execute<{ ms: string }>(sql`SELECT ${epochMs(sql`clock_timestamp()`)} AS ms`);
  return Number(row?.ms);
}

/** Those transactions, but for this one, that write rollups at this moment. */
export async function readWriters(db: Database): Promise<Set<string>> {
  const rows = await db.execute<{ id: string }>(sql`
    SELECT virtualtransaction AS id FROM pg_locks
    WHERE locktype = 'relation' AND granted AND mode = 'RowExclusiveLock'
      AND relation = 'method_rollups'::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pid <> pg_backend_pid()`);
  return new Set(rows.map(({ id }) => id));
}

function epochMs(time: SQL | typeof rollupLateHours.hour): SQL {
  return sql`(extract(epoch FROM ${time}) * 1000)::bigint`;
}
