/**
 * What was committed just now, by whichever instance: `request_log_tail` in Postgres.
 *
 * While an instance holds a lease in `request_log_tails`, every batch of every
 * instance leaves the primary keys of its rows (`usage/store.ts`). A writer that
 * began before the lease was committed does not see it, and may commit after it;
 * so a lease counts from when those writers are done. They are known by their locks:
 * a statement locks its tables before it takes the snapshot by which it reads.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";
import { instances, requestLogs, requestLogTail, requestLogTails } from "../db/schema.ts";
import { type RequestLogRow, rowColumns, type SelectedRow, toRow } from "./row.ts";

/** A batch that was committed. An instance numbers its own 1, 2, 3 …, and commits them in this order. */
export interface TailedBatch {
  readonly instanceId: string;
  readonly batch: number;
  readonly rows: number;
}

/** The newest batch of each instance. */
export type LastBatches = Map<string, number>;

export interface TailStore {
  /** Takes or renews the lease. False: there was none, or it may have run out meanwhile. */
  renew(): Promise<boolean>;
  /** Resolves once all batches that are committed from then on leave their keys, given a lease. */
  writersSeeLease(): Promise<void>;
  /** The newest batch of every instance that was there within a day. */
  lastBatches(): Promise<LastBatches>;
  /** The batches that came after these, each instance's in its order. */
  readBatches(after: LastBatches): Promise<TailedBatch[]>;
  /** The rows of batches, oldest first. Those of a batch that was packed, or swept meanwhile, are missing. */
  readRows(batches: readonly TailedBatch[]): Promise<RequestLogRow[]>;
  /** Drops the batches that all who tail have read. */
  sweep(): Promise<void>;
  /** Gives the lease up; without any, the batches go too. */
  release(): Promise<void>;
}

/** Outlives a short outage: while Postgres is away, nothing is committed that could be missed. */
const lease = sql.raw("interval '30 seconds'");
/** Longer than renewing can take. */
const leaseMargin = sql.raw("interval '10 seconds'");
const kept = sql.raw("interval '30 seconds'");
/** No writer's statement lives longer. */
const writersTimeoutMs = 10_000;
const writersPollMs = 10;

export function createTailStore(db: Database, instanceId: string): TailStore {
  /** The transactions that write, or are about to. */
  async function writers(): Promise<string[]> {
    const found = await db.execute<{ id: string }>(sql`
      SELECT virtualtransaction AS id FROM pg_locks
      WHERE relation = 'request_log_tail'::regclass AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`);
    return found.map(({ id }) => id);
  }

  return {
    async renew() {
      const [found] = await db.execute<{ held: boolean | null }>(sql`
        WITH before AS (
          SELECT expires_at > now() + ${leaseMargin} AS held FROM ${requestLogTails}
          WHERE instance_id = ${instanceId}::uuid
        ) INSERT INTO ${requestLogTails} (instance_id, expires_at) VALUES (${instanceId}::uuid, now() + ${lease})
        ON CONFLICT (instance_id) DO UPDATE SET expires_at = excluded.expires_at
        RETURNING (SELECT held FROM before) AS held`);
      return found?.held ?? false;
    },

    async writersSeeLease() {
      const giveUpAt = performance.now() + writersTimeoutMs;
      const before = new Set(await writers());
      while (before.size > 0 && performance.now() < giveUpAt) {
        await sleep(writersPollMs);
        const now = new Set(await writers());
        for (const id of before) if (!now.has(id)) before.delete(id);
      }
    },

    async lastBatches() {
      const found = await db.execute<{ id: string; batch: string }>(sql`
        SELECT id, last_batch AS batch FROM ${instances} WHERE seen_at > now() - interval '1 day'`);
      return new Map(found.map(({ id, batch }) => [id, Number(batch)]));
    },

    async readBatches(after) {
      const found = await db.execute<{ instance_id: string; batch: string; rows: number }>(sql`
        SELECT tail.instance_id, tail.batch, cardinality(tail.ids) + tail.packed_rows AS rows
        FROM ${requestLogTail} tail
        LEFT JOIN unnest(
          ${sql.param([...after.keys()])}::uuid[], ${sql.param([...after.values()].map(String))}::bigint[]
        ) AS seen (instance_id, batch) ON seen.instance_id = tail.instance_id
        WHERE tail.batch > coalesce(seen.batch, 0)
        ORDER BY tail.batch`);
      return found.map((row) => ({
        instanceId: row.instance_id,
        batch: Number(row.batch),
        rows: row.rows,
      }));
    },

    async readRows(batches) {
      const found = await db.execute<SelectedRow>(sql`
        SELECT ${rowColumns}
        FROM (
          SELECT logged.*
          FROM unnest(
            ${sql.param(batches.map((one) => one.instanceId))}::uuid[],
            ${sql.param(batches.map((one) => String(one.batch)))}::bigint[]
          ) AS wanted (instance_id, batch)
          JOIN ${requestLogTail} tail ON tail.instance_id = wanted.instance_id AND tail.batch = wanted.batch
          CROSS JOIN LATERAL unnest(tail.times, tail.ids) AS key (time, id)
          -- LIMIT: each by its primary key, whatever the planner thinks that there are.
          CROSS JOIN LATERAL (
            SELECT * FROM ${requestLogs} WHERE time = key.time AND id = key.id LIMIT 1
          ) logged
        ) found
        ORDER BY time, id`);
      return found.map(toRow);
    },

    async sweep() {
      await db.execute(sql`DELETE FROM ${requestLogTail} WHERE committed_at < now() - ${kept}`);
    },

    async release() {
      await db.execute(sql`DELETE FROM ${requestLogTails} WHERE instance_id = ${instanceId}::uuid`);
      // Whoever takes a lease later begins with later batches.
      await db.execute(sql`
        DELETE FROM ${requestLogTail}
        WHERE NOT EXISTS (SELECT FROM ${requestLogTails} WHERE expires_at > now())`);
    },
  };
}
