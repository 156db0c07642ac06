/** Writes batches of usage: log rows, rollups and counters in one statement, all or nothing, once. */
import { type SQL, sql } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import type { Database } from "../db/client.ts";
import { mergeByAdding } from "../db/merge-rollups.ts";
import type { Instance } from "../db/presence.ts";
import {
  apiKeyUsage,
  instances,
  keyRollups,
  methodRollups,
  requestLogPacks,
  requestLogTail,
  requestLogTails,
  rollupLateHours,
} from "../db/schema.ts";
import { baseMs, callColumns, callValues } from "./call-columns.ts";
import { insertCalls } from "./call-rows.ts";
import { array, type Column, instantOf, quote, unnest, valueName, valuesOf } from "./columns.ts";
import type { GatheredCalls } from "./gathered-calls.ts";
import { floorTo, hourMs } from "./range.ts";
import { type KeyCount, keyRollupsOf, methodRollupsOf, periodS, type Rollup, type Totals } from "./totals.ts";

export interface UsageBatch {
  /** 1, 2, 3 … of this instance. Sending a number again writes nothing again. */
  readonly number: number;
  /** Those that get rows. */
  readonly calls: GatheredCalls;
  /** Also of calls without one. */
  readonly totals: Totals;
  /** Rows are written as they are, for `keepUnpacked` to lay them out. */
  readonly isPacked?: boolean;
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
 * - Counters are locked in the order of their ids before any is moved: to count
 *   those that are `locked` is to lock them all. An UPDATE from a join locks in any
 *   order, and two instances would deadlock.
 * - Rollups are merged in the order of their keys, for the same reason.
 * - While somebody tails the log, the batch leaves the keys of its rows, though it
 *   may have none: a number that is missing is then a batch that was missed.
 *
 * It is prepared, as reading and planning it takes as long as writing a hundred rows.
 */
export function createUsageStore({ db, instance, redact }: UsageStoreOptions): WriteUsage {
  const clean = (text: string) => redact(text.replaceAll("\0", "").toWellFormed());
  const prepare = (name: string, calls: SQL) => {
    const query = new PgDialect().sqlToQuery(writeBatch(instance, calls));
    return db._.session.prepareQuery(query, undefined, name, false);
  };
  const [asRows, asPack] = [
    prepare("write_usage", logRows(instance)),
    prepare("write_usage_packed", logPack(instance)),
  ];
  return async ({ number, calls, totals, isPacked }) => {
    const ofMethods = methodRollupsOf(totals);
    await (isPacked ? asPack : asRows).execute({
      number,
      ...callValues(calls, clean),
      ...(isPacked && { [packedRows]: calls.rows }),
      ...valuesOf("count", countColumns, [...totals.keys]),
      ...valuesOf("method", rollupColumns, ofMethods),
      ...valuesOf("key", keyRollupColumns, keyRollupsOf(totals)),
      ...valuesOf("minute", minuteColumns, [...new Set(ofMethods.map(({ bucketMs }) => bucketMs))]),
    });
  };
}

/** Whether the batch was not written before. */
const isNew = sql`EXISTS (SELECT FROM batch)`;

/** Whether somebody tails the log. */
const isTailed = sql`EXISTS (SELECT FROM ${requestLogTails} WHERE expires_at > now())`;

/** Logs the calls of the batch, a row each. */
function logRows(instance: Instance): SQL {
  const instanceId = sql`${instance.id}::uuid`;
  const base = sql`${sql.placeholder(baseMs)}::bigint`;
  return sql`
    logged AS (${insertCalls({ arrayOf: array, baseMs: base, instanceId, where: isNew })}
    ), tailed AS (
      INSERT INTO ${requestLogTail} (instance_id, batch, times, ids)
      SELECT ${instanceId}, last_batch, ARRAY(SELECT time FROM logged), ARRAY(SELECT id FROM logged)
      FROM batch
      WHERE ${isTailed}
    )`;
}

/** The placeholder of how many rows are in a pack. */
const packedRows = "call rows";

/** Logs the calls of the batch as they are, to be laid out later. */
function logPack(instance: Instance): SQL {
  const instanceId = sql`${instance.id}::uuid`;
  const rows = sql`${sql.placeholder(packedRows)}::int`;
  const columns = callColumns.map(([of, column]) => sql`${sql.placeholder(valueName(of, column))}::text`);
  return sql`
    packed AS (
      INSERT INTO ${requestLogPacks} (instance_id, rows, base_ms, columns)
      SELECT ${instanceId}, ${rows}, ${sql.placeholder(baseMs)}::bigint, ARRAY[${sql.join(columns, sql`, `)}]
      FROM batch
    ), tailed AS (
      INSERT INTO ${requestLogTail} (instance_id, batch, times, ids, packed_rows)
      SELECT ${instanceId}, last_batch, '{}', '{}', ${rows}
      FROM batch
      WHERE ${isTailed}
    )`;
}

/** `calls` are the parts that log them. */
function writeBatch(instance: Instance, calls: SQL): SQL {
  return sql`
    WITH batch AS (
      INSERT INTO ${instances} (id, hostname, pid, version, started_at, seen_at, last_batch)
      VALUES (${instance.id}, ${instance.hostname}, ${instance.pid}, ${instance.version},
        ${instance.startedAt.toISOString()}, now(), ${sql.placeholder("number")})
      ON CONFLICT (id) DO UPDATE SET last_batch = excluded.last_batch, seen_at = excluded.seen_at
      WHERE ${instances.lastBatch} < excluded.last_batch
      RETURNING last_batch
    ), ${calls}, locked AS MATERIALIZED (
      SELECT api_key_id FROM ${apiKeyUsage}
      WHERE api_key_id = ANY (${array("count", countedKey)}) AND ${isNew}
      ORDER BY api_key_id FOR NO KEY UPDATE
    ), counted AS (
      UPDATE ${apiKeyUsage} SET
        request_count = ${apiKeyUsage.requestCount} + count.requests,
        last_used_at = greatest(${apiKeyUsage.lastUsedAt}, ${instantOf(sql`count.last_used_ms`)}),
        idle_since = greatest(${apiKeyUsage.idleSince},
          (${instantOf(sql`count.last_used_ms`)} AT TIME ZONE 'UTC')::date)
      FROM ${unnest("count", countColumns)}
      WHERE ${apiKeyUsage.apiKeyId} = count.id AND (SELECT count(*) FROM locked) > 0
    ), by_method AS (${mergeRollups("method")}
    ), by_key AS (${mergeRollups("key")}
    ), late AS (${markLateHours}
    )
    SELECT count(*) FROM batch`;
}

type Counted = [id: string, count: KeyCount];

const countedKey: Column<Counted> = { name: "id", type: "uuid", literal: ([id]) => id };

const countColumns: Column<Counted>[] = [
  countedKey,
  { name: "requests", type: "bigint", literal: ([, { requests }]) => requests },
  { name: "last_used_ms", type: "bigint", literal: ([, { lastUsedMs }]) => lastUsedMs },
];

const rollupColumns: Column<Rollup>[] = [
  { name: "bucket_ms", type: "bigint", literal: ({ bucketMs }) => bucketMs },
  { name: "service", type: "text", literal: ({ service }) => quote(service) },
  { name: "method", type: "text", literal: ({ method }) => quote(method) },
  { name: "code", type: "smallint", literal: ({ code }) => code },
  { name: "denial_reason", type: "text", literal: ({ denialReason }) => quote(denialReason) },
  { name: "requests", type: "bigint", literal: ({ requests }) => requests },
  { name: "duration_us", type: "bigint", literal: ({ durationUs }) => durationUs },
  { name: "request_bytes", type: "bigint", literal: ({ requestBytes }) => requestBytes },
  { name: "response_bytes", type: "bigint", literal: ({ responseBytes }) => responseBytes },
  { name: "latency", type: "text", literal: ({ latency }) => quote(`{${latency.join(",")}}`) },
];

const keyRollupColumns: Column<Rollup>[] = [
  ...rollupColumns,
  { name: "api_key_id", type: "uuid", literal: ({ apiKeyId }) => apiKeyId },
  { name: "user_id", type: "bigint", literal: ({ userId }) => userId },
];

function mergeRollups(by: "method" | "key"): SQL {
  const table = by === "method" ? methodRollups : keyRollups;
  const columns = by === "method" ? rollupColumns : keyRollupColumns;
  const subject = by === "method" ? sql.raw("") : sql.raw("api_key_id, user_id, ");
  const primaryKey = sql.raw(
    by === "method"
      ? "period_s, bucket, service, method, code, denial_reason"
      : "api_key_id, user_id, period_s, bucket, service, method, code, denial_reason",
  );
  return sql`
    INSERT INTO ${table} (${subject}period_s, bucket, service, method, code, denial_reason, requests, duration_us,
      request_bytes, response_bytes, latency)
    SELECT ${subject}${periodS}::int AS period_s, ${instantOf(sql`bucket_ms`)} AS bucket, service, method, code,
      denial_reason, requests, duration_us, request_bytes, response_bytes, latency::int[]
    FROM ${unnest(by, columns)}
    WHERE ${isNew}
    ORDER BY ${primaryKey}
    ON CONFLICT (${primaryKey}) DO UPDATE SET ${mergeByAdding(sql`${table}`)}`;
}

/** Of the minutes, in milliseconds since the epoch, that a batch has calls of. */
const minuteColumns: Column<number>[] = [
  { name: "bucket_ms", type: "bigint", literal: (minute) => minute },
  { name: "hour_ms", type: "bigint", literal: (minute) => floorTo(hourMs, minute) },
];

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
const markLateHours = sql`
  INSERT INTO ${rollupLateHours} (hour)
  SELECT DISTINCT ${instantOf(sql`hour_ms`)}
  FROM ${unnest("minute", minuteColumns)}
  WHERE ${instantOf(sql`bucket_ms`)} < clock_timestamp() - interval '3 minutes' AND ${isNew}`;
