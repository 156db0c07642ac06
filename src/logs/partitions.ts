/** The days of the request log: made ahead, dropped when old. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";

/** Partitions are made this many days ahead. */
const daysAhead = 7;
const dayMs = 86_400_000;
/** Any number, the same in every instance: one of them keeps the partitions at a time. */
const partitionLock = 7_270_951_825;

/**
 * Makes the partitions of today and the days ahead and drops those older than the
 * retention. Does nothing while another instance is at it. A day is in UTC.
 */
export async function keepPartitions(db: Database, retentionDays: number, now: Date): Promise<void> {
  const today = Math.floor(now.getTime() / dayMs) * dayMs;
  await db.transaction(async (tx) => {
    // Rather try again at the next turn than make every writer queue up behind this.
    await tx.execute(sql`SET LOCAL lock_timeout = '1s'`);
    const [lock] = await tx.execute<{ held: boolean }>(
      sql`SELECT pg_try_advisory_xact_lock(${partitionLock}) AS held`,
    );
    if (!lock?.held) return;
    const existing = new Set(await partitions(tx));
    for (let day = today; day <= today + daysAhead * dayMs; day += dayMs) {
      const name = partitionName(day);
      if (existing.has(name)) continue;
      // Literals: DDL takes no parameters. They are made here from a number.
      const range = sql.raw(
        `FROM ('${new Date(day).toISOString()}') TO ('${new Date(day + dayMs).toISOString()}')`,
      );
      await tx.execute(
        sql`CREATE TABLE ${sql.identifier(name)} PARTITION OF request_logs FOR VALUES ${range}`,
      );
    }
    const oldest = partitionName(today - retentionDays * dayMs);
    for (const name of existing) {
      // The names sort as their days do.
      if (/^request_logs_\d{8}$/.test(name) && name < oldest) {
        await tx.execute(sql`DROP TABLE ${sql.identifier(name)}`);
      }
    }
  });
}

/** E.g. "request_logs_20261124". */
function partitionName(dayMsSinceEpoch: number): string {
  return `request_logs_${new Date(dayMsSinceEpoch).toISOString().slice(0, 10).replaceAll("-", "")}`;
}

async function partitions(tx: Pick<Database, "execute">): Promise<string[]> {
  const rows = await tx.execute<{ name: string }>(sql`
    SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'request_logs'::regclass`);
  return rows.map(({ name }) => name);
}
