/** Writes batches of usage: log rows, rollups and counters in one statement, all or nothing, once. */
import { type SQL, sql } from "drizzle-orm";
import type { EndedCall } from "../auth/call.ts";
import type { Database } from "../db/client.ts";
import { mergeByAdding } from "../db/merge-rollups.ts";
import type { Instance } from "../db/presence.ts";
import {
  apiKeyUsage,
  instances,
  keyRollups,
  methodRollups,
  requestLogs,
  requestLogTail,
  requestLogTails,
  rollupLateHours,
} from "../db/schema.ts";
import { columnsOf } from "./columns.ts";
import { floorTo, hourMs } from "./range.ts";
import { periodS, type Rollup, type Totals } from "./totals.ts";

export interface UsageBatch {
  /** 1, 2, 3 … of this instance. Sending a number again writes nothing again. */
  readonly number: number;
  readonly calls: readonly EndedCall[];
  readonly totals: Totals;
}

export interface UsageStoreOptions {
  db: Database;
  /** Who writes. */
  instance: Instance;
  /** Takes out of a text from a caller what must not be stored. */
  redact: (text: string) => string;
}

/** Commits one batch. Not to be called again before the call before has settled. */
export type WriteUsage = (batch: UsageBatch) => Promise<void>;

/**
 * Creates the writer. One statement does it all, so that a batch is one round
 * trip and one commit:
 *
 * - `batch` moves this instance's batch number, and everything else asks whether
 *   it did: after an answer was lost, the batch can be sent again and counts once.
 * - Counters are locked in the order of their ids before any is moved. An UPDATE
 *   from a join locks in any order, and two instances would deadlock.
 * - Rollups are merged in the order of their keys, for the same reason.
 * - While somebody tails the log, the batch leaves the keys of its rows, though it
 *   may have none: a number that is missing is then a batch that was missed.
 *
 * Ids of users go as text: postgres.js would take an array of bigint for one bigint.
 */
export function createUsageStore(options: UsageStoreOptions): WriteUsage {
  const { db, instance } = options;
  return async ({ number, calls, totals }) => {
    await db.execute(sql`
      WITH batch AS (
        INSERT INTO ${instances} (id, hostname, pid, version, started_at, seen_at, last_batch)
        VALUES (${instance.id}, ${instance.hostname}, ${instance.pid}, ${instance.version},
          ${instance.startedAt.toISOString()}, now(), ${number})
        ON CONFLICT (id) DO UPDATE SET last_batch = excluded.last_batch, seen_at = excluded.seen_at
        WHERE ${instances.lastBatch} < excluded.last_batch
        RETURNING 1
      ), logged AS (${insertCalls(calls, instance.id, options.redact)}
      ), tailed AS (
        INSERT INTO ${requestLogTail} (instance_id, batch, times, ids)
        SELECT ${instance.id}::uuid, ${number}::bigint, coalesce(array_agg(time), '{}'), coalesce(array_agg(id), '{}')
        FROM logged
        HAVING EXISTS (SELECT FROM batch) AND EXISTS (SELECT FROM ${requestLogTails} WHERE expires_at > now())
      ), locked AS MATERIALIZED (
        SELECT api_key_id FROM ${apiKeyUsage}
        WHERE api_key_id = ANY (${sql.param([...totals.keys.keys()])}::uuid[]) AND EXISTS (SELECT FROM batch)
        ORDER BY api_key_id FOR NO KEY UPDATE
      ), counted AS (
        UPDATE ${apiKeyUsage} SET
          request_count = ${apiKeyUsage.requestCount} + count.requests,
          last_used_at = greatest(${apiKeyUsage.lastUsedAt}, to_timestamp(count.last_used_ms / 1000.0)),
          idle_since = greatest(${apiKeyUsage.idleSince},
            (to_timestamp(count.last_used_ms / 1000.0) AT TIME ZONE 'UTC')::date)
        FROM unnest(
          ${sql.param([...totals.keys.keys()])}::uuid[],
          ${sql.param([...totals.keys.values()].map((count) => count.requests))}::bigint[],
          ${sql.param([...totals.keys.values()].map((count) => count.lastUsedMs))}::bigint[]
        ) AS count (id, requests, last_used_ms)
        WHERE ${apiKeyUsage.apiKeyId} = count.id AND count.id IN (SELECT api_key_id FROM locked)
      ), by_method AS (${mergeRollups("method", [...totals.methodRollups.values()])}
      ), by_key AS (${mergeRollups("key", [...totals.keyRollups.values()])}
      ), late AS (${markLateHours([...totals.methodRollups.values()])}
      )
      SELECT count(*) FROM batch`);
  };
}

function insertCalls(calls: readonly EndedCall[], instanceId: string, redact: (text: string) => string): SQL {
  const columns = columnsOf(calls, (text) => redact(text.replaceAll("\0", "").toWellFormed()));
  return sql`
    INSERT INTO ${requestLogs} (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
      instance_id, error_message, trace_id)
    SELECT to_timestamp(time_ms / 1000.0), id, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
      ${instanceId}::uuid, error_message, trace_id
    FROM unnest(
      ${columns.times}::bigint[],
      ${columns.ids}::uuid[],
      ${columns.services}::text[],
      ${columns.methods}::text[],
      ${columns.protocols}::text[],
      ${columns.codes}::smallint[],
      ${columns.denials}::text[],
      ${columns.users}::bigint[],
      ${columns.keys}::uuid[],
      ${columns.kinds}::text[],
      ${columns.durations}::bigint[],
      ${columns.requestBytes}::bigint[],
      ${columns.responseBytes}::bigint[],
      ${columns.peers}::inet[],
      ${columns.userAgents}::text[],
      ${columns.requestIds}::text[],
      ${columns.errors}::text[],
      ${columns.traces}::text[]
    ) AS call (time_ms, id, service, method, protocol, code, denial_reason, user_id, api_key_id, credential_kind,
      duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id, error_message, trace_id)
    WHERE EXISTS (SELECT FROM batch)
    RETURNING time, id`;
}

function mergeRollups(by: "method" | "key", rollups: readonly Rollup[]): SQL {
  const table = by === "method" ? methodRollups : keyRollups;
  const column = <T>(pick: (rollup: Rollup) => T) => sql.param(rollups.map(pick));
  const subject = by === "method" ? sql.raw("") : sql.raw("api_key_id, user_id, ");
  const primaryKey = sql.raw(
    by === "method"
      ? "period_s, bucket, service, method, code, denial_reason"
      : "api_key_id, user_id, period_s, bucket, service, method, code, denial_reason",
  );
  return sql`
    INSERT INTO ${table} (${subject}period_s, bucket, service, method, code, denial_reason, requests, duration_us,
      request_bytes, response_bytes, latency)
    SELECT ${subject}${periodS}::int AS period_s, to_timestamp(bucket_ms / 1000.0) AS bucket, service, method, code, denial_reason,
      requests, duration_us, request_bytes, response_bytes, latency::int[]
    FROM unnest(
      ${column((rollup) => rollup.bucketMs)}::bigint[],
      ${column((rollup) => rollup.service)}::text[],
      ${column((rollup) => rollup.method)}::text[],
      ${column((rollup) => rollup.code)}::smallint[],
      ${column((rollup) => rollup.denialReason)}::text[],
      ${column((rollup) => rollup.apiKeyId ?? null)}::uuid[],
      ${column((rollup) => rollup.userId?.toString() ?? null)}::bigint[],
      ${column((rollup) => rollup.requests)}::bigint[],
      ${column((rollup) => rollup.durationUs)}::bigint[],
      ${column((rollup) => rollup.requestBytes)}::bigint[],
      ${column((rollup) => rollup.responseBytes)}::bigint[],
      ${column((rollup) => `{${rollup.latency.join(",")}}`)}::text[]
    ) AS rollup (bucket_ms, service, method, code, denial_reason, api_key_id, user_id, requests,
      duration_us, request_bytes, response_bytes, latency)
    WHERE EXISTS (SELECT FROM batch)
    ORDER BY ${primaryKey}
    ON CONFLICT (${primaryKey}) DO UPDATE SET ${mergeByAdding(sql`${table}`)}`;
}

/**
 * Notes the hours that may be folded already, to be folded again: those of minutes
 * that began more than three minutes ago, as long RPCs, an outage and a clock that
 * is behind bring them.
 *
 * By the clock as this executes, not by now(), which may be from before this waited
 * for a lock on the rollups: the fold counts on that order, see `fold.ts`. Each
 * batch adds rows of its own, so that no writer ever waits for the fold or another
 * writer.
 */
function markLateHours(rollups: readonly Rollup[]): SQL {
  const minutes = [...new Set(rollups.map(({ bucketMs }) => bucketMs))];
  return sql`
    INSERT INTO ${rollupLateHours} (hour)
    SELECT DISTINCT to_timestamp(hour_ms / 1000.0)
    FROM unnest(
      ${sql.param(minutes)}::bigint[],
      ${sql.param(minutes.map((minute) => floorTo(hourMs, minute)))}::bigint[]
    ) AS minute (bucket_ms, hour_ms)
    WHERE to_timestamp(bucket_ms / 1000.0) < clock_timestamp() - interval '3 minutes'
      AND EXISTS (SELECT FROM batch)`;
}
