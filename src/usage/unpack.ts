/**
 * Lays out what was packed. Rows cost the database some ten times what their pack did: what a
 * burst leaves is laid out once it is over, or when somebody looks at the log, or in time.
 */
import { within } from "../within.ts";
import type { PackStore, Waiting } from "./pack-store.ts";

export interface UnpackingOptions {
  store: PackStore;
  onError: (message: string, error: unknown) => void;
  /** Rows that wait at most: while there are more, none are packed. Default 20,000,000, some 600 MB. */
  maxRows?: number;
}

export interface Unpacking {
  /** Whether there is room for a batch that is packed. */
  mayPack(): boolean;
  /** Tells of a batch that was. */
  packed(rows: number): void;
  /** Whether rows wait, of whichever instance. They are laid out without delay then: somebody looks at the log. */
  look(): Promise<boolean>;
  /** Rows that waited at the last look at them. */
  readonly waitingRows: number;
  /** Since the start: rows that are gone, as Postgres refuses them. */
  readonly droppedRows: number;
  /** Resolves once what is being laid out is done. The rest is left to others, or to the next start. */
  close(): Promise<void>;
}

/** So long after the last pack a burst is over. */
const burstMs = 1000;
/** In a burst nothing is laid out until the oldest has waited for `from`; from `to` on, all of the time is for it. */
const waitsMs = { from: 10_000, to: 60_000 };
/** Who looks at the log is likely to look again. */
const lookedMs = 10_000;
/** Between two looks, where nothing is known to wait: there may be packs of instances that have ended. */
const idleMs = 60_000;
const firstMs = 1000;
/** In a burst, and after a failure. */
const pauseMs = 1000;
/** Packs are laid out for so long, and then it is looked how many there are. */
const turnMs = 200;
/** Between turns at most: a burst may have ended. */
const longestPauseMs = 2000;
const longestCloseMs = 2000;

/** Creates it, and starts. */
export function createUnpacking({ store, onError, maxRows = 20_000_000 }: UnpackingOptions): Unpacking {
  let waiting: Waiting = { rows: 0, oldestMs: Infinity, newestMs: Infinity };
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let droppedRows = 0;
  let failing = false;
  let closed = false;
  let isIdle = true;
  let isNewlyPacked = false;
  let wake = () => {};

  async function run(): Promise<void> {
    for (let pause = firstMs; !closed; ) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (closed) return;
      try {
        pause = await turn();
        failing = false;
      } catch (error) {
        pause = isIdle ? idleMs : pauseMs;
        // Where nothing is known to wait, others tell that the database is away.
        if (failing || isIdle || closed) continue;
        failing = true;
        onError("packed request log rows could not be laid out; it is tried again", error);
      }
    }
  }

  /** Lays out what may be. Returns how long to pause, in milliseconds. */
  async function turn(): Promise<number> {
    isNewlyPacked = false;
    waiting = await store.waiting();
    isIdle = waiting.rows === 0 && !isNewlyPacked;
    if (isIdle) return idleMs;
    const share = shareOfTime();
    if (share === 0) return pauseMs;
    const beganMs = performance.now();
    while (!closed && performance.now() < beganMs + turnMs) {
      const unpacked = await store.unpackNext();
      // Others are at what is left.
      if (unpacked === undefined) return pauseMs;
      if (unpacked.droppedRows > 0)
        onError("a request log row was dropped, as Postgres refuses it; its call is counted", undefined);
      droppedRows += unpacked.droppedRows;
    }
    return Math.min(longestPauseMs, ((performance.now() - beganMs) * (1 - share)) / share);
  }

  /** From 0 to 1. */
  function shareOfTime(): number {
    if (waiting.newestMs > burstMs || performance.now() < lookedAtMs + lookedMs) return 1;
    const share = (waiting.oldestMs - waitsMs.from) / (waitsMs.to - waitsMs.from);
    return Math.max(0, Math.min(1, share));
  }

  const running = run();

  return {
    mayPack: () => !closed && waiting.rows < maxRows,
    packed(rows) {
      waiting = { ...waiting, rows: waiting.rows + rows };
      isNewlyPacked = true;
      if (!isIdle) return;
      isIdle = false;
      wake();
    },
    async look() {
      waiting = await store.waiting();
      if (waiting.rows > 0) {
        lookedAtMs = performance.now();
        isIdle = false;
        wake();
      }
      return waiting.rows > 0;
    },
    get waitingRows() {
      return waiting.rows;
    },
    get droppedRows() {
      return droppedRows;
    },
    async close() {
      closed = true;
      wake();
      await within(longestCloseMs, running).catch(() => {});
    },
  };
}
