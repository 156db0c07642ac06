/** Housekeeping, by one instance at a time, that no one has to wait for. */
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { type Database, type Executor, sqlState } from "./client.ts";

/** Any number, the same in every instance. */
const housekeepingLock = 7_270_951_825;

/**
 * Whoever comes after a statement that waits for a lock of a whole table waits as
 * long: so it waits for this long at most, and tries again after it has let the others
 * through. Below Postgres' `deadlock_timeout` (1 s), so that it is never others who
 * are picked as a deadlock's victim.
 */
const lockTimeoutMs = 200;
const pausesMs = [100, 200, 400, 800];

/** 55P03: not got in time. 40P01: deadlock. 23514: the default partition got a row of a partition that was being attached. */
const passing = new Set(["55P03", "40P01", "23514"]);

/**
 * Runs a transaction unless another instance is in one of these; then it resolves
 * with undefined. Where it cannot have a lock it is tried again a few times, and
 * rejects in the end, with nothing done.
 */
export async function alone<T>(db: Database, run: (tx: Executor) => Promise<T>): Promise<T | undefined> {
  for (let tries = 0; ; tries++) {
    try {
      return await db.transaction(async (tx) => {
        await tx.execute(sql`SET LOCAL lock_timeout = ${sql.raw(String(lockTimeoutMs))}`);
        const [lock] = await tx.execute<{ held: boolean }>(
          sql`SELECT pg_try_advisory_xact_lock(${housekeepingLock}) AS held`,
        );
        return lock?.held ? await run(tx) : undefined;
      });
    } catch (error) {
      const pauseMs = pausesMs[tries];
      if (pauseMs === undefined || !passing.has(sqlState(error) ?? "")) throw error;
      await sleep(pauseMs);
    }
  }
}
