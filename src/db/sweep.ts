/** Deletes old rows of the tables that are not partitioned: few a day, so a few at a time. */
import { and, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { PgTable } from "drizzle-orm/pg-core";
import { alone } from "./alone.ts";
import type { Database } from "./client.ts";
import type { Clocks } from "./clocks.ts";
import { idempotentRequests, instances, rollupTops, sessions } from "./schema.ts";

const rowsAtOnce = 1000;
const dayMs = 86_400_000;

/**
 * Deletes sessions that have expired, instances that were not seen for 30 days, requests
 * that need no remembering after a day, and the busiest keys and users of before the
 * retention, until it is done or `stopped`.
 * Resolves at once while another instance is at it.
 */
export async function sweepRows(
  db: Database,
  options: { statsRetentionDays: number },
  { earliest }: Clocks,
  stopped: () => boolean = () => false,
): Promise<void> {
  const ago = (days: number) => new Date(earliest.getTime() - days * dayMs);
  const swept: [PgTable, SQL | undefined][] = [
    [sessions, lt(sessions.expiresAt, earliest)],
    [instances, lt(instances.seenAt, ago(30))],
    [idempotentRequests, lt(idempotentRequests.createdAt, ago(1))],
    [
      rollupTops,
      and(
        // All that there are: its index has them before the bucket.
        inArray(rollupTops.kind, ["key", "user"]),
        inArray(rollupTops.periodS, [3600, 86_400]),
        lt(rollupTops.bucket, ago(options.statsRetentionDays)),
      ),
    ],
  ];
  for (const [table, condition] of swept) {
    let deleted: number | undefined = rowsAtOnce;
    while (deleted === rowsAtOnce && !stopped()) {
      const rows: { count: number } | undefined = await alone(db, (tx) =>
        tx.execute(sql`
          DELETE FROM ${table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM ${table} WHERE ${condition} LIMIT ${rowsAtOnce} FOR UPDATE SKIP LOCKED))`),
      );
      deleted = rows?.count;
    }
  }
}
