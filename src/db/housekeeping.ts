/** Keeps the database in order, every minute, by one instance at a time. */
import { within } from "../within.ts";
import type { Database } from "./client.ts";
import { createClocks } from "./clocks.ts";
import { keepPartitions, makeMissing, type PartitionsOptions } from "./partitions.ts";
import { sweepRows } from "./sweep.ts";

export interface HousekeepingOptions extends PartitionsOptions {
  /** Needs no more than one connection. */
  db: Database;
  onError: (message: string, error: unknown) => void;
}

export interface Housekeeping {
  /** Resolves once the partitions of now are made, or could not be: rows go to the default ones then. */
  start(): Promise<void>;
  /** Resolves once the transaction that is under way has ended; of a database that does not answer, within 2 s. */
  close(): Promise<void>;
}

/** So that a clock that has jumped is soon noticed. */
const intervalMs = 60_000;
/** Rows are moved and deleted for this long, then partitions are looked after again. */
const longestTurnMs = 45_000;
const longestCloseMs = 2_000;

/** Creates the housekeeping. It does nothing until it is started. */
export function createHousekeeping(options: HousekeepingOptions): Housekeeping {
  const { db, onError } = options;
  const readClocks = createClocks();
  let closed = false;
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  const tell = (message: string) => (error: unknown) => {
    if (!closed) onError(message, error);
  };

  async function turn(): Promise<void> {
    const endMs = performance.now() + longestTurnMs;
    const stopped = () => closed || performance.now() > endMs;
    const clocks = await readClocks(db);
    await sweepRows(db, options, clocks, stopped).catch(tell("old rows could not be deleted"));
    await keepPartitions(db, options, clocks, stopped);
  }

  function run(work: () => Promise<void>): Promise<void> {
    running ??= work()
      .catch(tell("partitions could not be kept; it is tried again in a minute"))
      .finally(() => {
        running = undefined;
      });
    return running;
  }

  return {
    async start() {
      await run(async () => makeMissing(db, options, await readClocks(db)));
      timer = setInterval(() => run(turn), intervalMs);
      // What a stop has left is not to wait for a minute, nor the start for it.
      void run(turn);
    },
    async close() {
      closed = true;
      clearInterval(timer);
      if (running !== undefined) await within(longestCloseMs, running).catch(() => {});
    },
  };
}
