/**
 * Folds minutes into hours and hours into days. One instance does it at a time, and
 * doing it again changes nothing.
 *
 * Nothing is lost between a writer and the fold. A writer marks an hour as late when
 * its minute is older than three minutes by the database's clock, read as its
 * statement executes and so after it has locked `method_rollups`. The fold takes
 * hours that ended five minutes ago by that clock, then looks who has the table
 * locked, and waits until those have ended. A writer that was not among them
 * committed before, and what it wrote is seen; or it locks the table afterwards, and
 * then reads a time at which every minute of these hours is older than three
 * minutes, and marks them. A mark is committed with its rows: whoever takes the mark
 * sees the rows. The clock may thus jump back two minutes, as at a fail-over.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Database, Executor } from "../db/client.ts";
import {
  firstHour,
  foldDay,
  foldHour,
  readClock,
  readProgress,
  readWriters,
  takeLateHours,
  writeProgress,
} from "./fold-store.ts";
import { dayMs, floorTo, hourMs, minuteMs } from "./range.ts";

export interface FoldOptions {
  /** Stands for the database's clock. Only for hours that nobody writes to as the present. */
  now?: Date;
  /** How long to wait for those who write, in milliseconds; default 5,000. */
  settleMs?: number;
  /** Stops after the hour that is being folded. */
  signal?: AbortSignal;
}

/** An hour is folded when it ended so long ago. */
const settledAfterMs = 5 * minuteMs;
const intervalMs = minuteMs;
const pollMs = 20;
/** Any number, the same in every instance. */
const foldLock = 7_270_951_828;

/**
 * Folds what is to be folded: first the hours that got more since, then on from
 * where it came to, an hour a transaction. May be called by many instances at once:
 * one goes on, the others return.
 */
export async function foldRollups(db: Database, options: FoldOptions = {}): Promise<void> {
  const { signal } = options;
  const nowMs = options.now?.getTime() ?? (await readClock(db));
  const run = async (step: (tx: Executor) => Promise<boolean>) => {
    while (!signal?.aborted && (await alone(db, step)));
  };
  await run((tx) => foldLateHours(tx, nowMs));
  if (await writersEnded(db, options.settleMs ?? 5000)) {
    const until = floorTo(hourMs, nowMs - settledAfterMs);
    await run((tx) => foldNext(tx, until));
  }
}

/** Folds the late hours of one day again, and the day. False: there are none. */
async function foldLateHours(tx: Executor, nowMs: number): Promise<boolean> {
  const foldedUntil = (await readProgress(tx)) ?? 0;
  const hours = await takeLateHours(tx, foldedUntil, nowMs);
  if (hours === undefined) return false;
  for (const hour of hours) await foldHour(tx, hour);
  const day = floorTo(dayMs, hours[0] ?? 0);
  if (day + dayMs <= foldedUntil) await foldDay(tx, day);
  return true;
}

/** Folds the next hour, or goes on to where there is one; and the day that is whole with it. False: all is folded. */
async function foldNext(tx: Executor, until: number): Promise<boolean> {
  const from = (await readProgress(tx)) ?? (await firstHour(tx));
  if (from === undefined || from >= until) return false;
  const next = Math.min(until, (await firstHour(tx, from)) ?? until);
  if (next === from) await foldHour(tx, from);
  const folded = Math.max(next, from + hourMs);
  const day = floorTo(dayMs, from);
  if (day + dayMs <= folded) await foldDay(tx, day);
  await writeProgress(tx, folded);
  return true;
}

/** Waits until those who write rollups now have ended. False: somebody has not. */
async function writersEnded(db: Database, mostMs: number): Promise<boolean> {
  const before = await readWriters(db);
  for (const giveUpAt = performance.now() + mostMs; ; ) {
    const now = await readWriters(db);
    if ([...before].every((id) => !now.has(id))) return true;
    if (performance.now() >= giveUpAt) return false;
    await sleep(pollMs);
  }
}

/** Runs in a transaction; false, having done nothing, where another instance is at it. */
async function alone(db: Database, run: (tx: Executor) => Promise<boolean>): Promise<boolean> {
  return db.transaction(
    async (tx) => {
      const [lock] = await tx.execute<{ held: boolean }>(
        sql`SELECT pg_try_advisory_xact_lock(${foldLock}) AS held`,
      );
      return lock?.held === true && (await run(tx));
    },
    // Each statement must see what the instance before this one committed.
    { isolationLevel: "read committed" },
  );
}

/** Folds every minute until it is told to stop, which leaves what is under way to the end of the client. */
export function keepFolded(
  db: Database,
  onError: (message: string, error: unknown) => void,
): { stop(): void } {
  const stopped = new AbortController();
  let isRunning = false;
  const turn = async () => {
    if (isRunning) return;
    isRunning = true;
    try {
      await foldRollups(db, { signal: stopped.signal });
    } catch (error) {
      if (!stopped.signal.aborted) onError("rollups could not be folded; the next turn tries again", error);
    } finally {
      isRunning = false;
    }
  };
  const timer = setInterval(turn, intervalMs);
  return {
    stop() {
      clearInterval(timer);
      stopped.abort();
    },
  };
}
