/** The live request log: one poller an instance, however many readers, and none without any. */
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { untilAborted } from "../auth/until-aborted.ts";
import { within } from "../within.ts";
import { matches, type RequestLogFilter } from "./filter.ts";
import type { RequestLogRow } from "./row.ts";
import { type TailMessage, TailQueue } from "./tail-queue.ts";
import type { LastBatches, TailedBatch, TailStore } from "./tail-store.ts";

export interface LogTailsOptions {
  store: TailStore;
  onError: (message: string, error: unknown) => void;
  /** Readers at once; default 100. */
  maxReaders?: number;
  /** Milliseconds from one look to the next; default 300. */
  pollMs?: number;
  /** Rows read at one look; more are skipped. Default 5,000. */
  maxRowsPerPoll?: number;
}

export interface LogTails {
  /**
   * Yields an empty message once nothing more is missed, then rows as they are
   * committed, until the signal aborts. Throws `resource_exhausted` when there are
   * too many readers, and `unavailable` when the server stops.
   */
  open(filter: RequestLogFilter, signal: AbortSignal): AsyncGenerator<TailMessage, void, undefined>;
  /** Readers now. */
  readonly size: number;
  /** Ends all readers, then the poller. */
  close(): Promise<void>;
}

interface Reader {
  readonly filter: RequestLogFilter;
  readonly queue: TailQueue;
  /** Resolves when the poller is at work for it. */
  readonly begun: PromiseWithResolvers<void>;
  /** Ends it, the poller's doing or its client's. */
  readonly end: AbortController;
}

const renewEveryMs = 2000;
const sweepEveryMs = 10_000;
const retryMs = 1000;
const releaseTimeoutMs = 2000;

export function createLogTails(options: LogTailsOptions): LogTails {
  const { store, maxReaders = 100, pollMs = 300, maxRowsPerPoll = 5000 } = options;
  const readers = new Set<Reader>();
  const closing = new AbortController();
  let running: Promise<void> | undefined;
  /** Undefined: nobody has begun. */
  let seen: LastBatches | undefined;
  /** Whether all batches leave their keys, and have since what was seen. */
  let covered = false;
  let renewedAt = 0;
  let sweptAt = 0;

  function start(): void {
    running ??= run().finally(() => {
      running = undefined;
      // Came while the lease was given up.
      if (readers.size > 0 && !closing.signal.aborted) start();
    });
  }

  async function run(): Promise<void> {
    let failing = false;
    while (readers.size > 0 && !closing.signal.aborted) {
      try {
        await look();
        failing = false;
      } catch (error) {
        if (!failing) options.onError("the request log cannot be tailed; it is tried again", error);
        failing = true;
      }
      await sleep(failing ? retryMs : pollMs, undefined, { signal: closing.signal }).catch(() => {});
    }
    seen = undefined;
    covered = false;
    // Where this fails, the lease runs out.
    await within(releaseTimeoutMs, store.release()).catch(() => {});
  }

  /** Reads what has come and hands it out. */
  async function look(): Promise<void> {
    if (!covered || performance.now() - renewedAt > renewEveryMs) {
      const askedAt = performance.now();
      if (!(await store.renew())) covered = false;
      renewedAt = askedAt;
    }
    let last: LastBatches = new Map();
    if (!covered) {
      await store.writersSeeLease();
      last = await store.lastBatches();
      seen ??= last;
    }
    if (seen === undefined) return;
    const batches = await store.readBatches(seen);
    const taken = takeUpTo(batches, maxRowsPerPoll);
    const rows = taken.length === 0 ? [] : await store.readRows(taken);
    const committed = batches.reduce((sum, batch) => sum + batch.rows, 0);
    const lost = advance(seen, batches) + advanceTo(seen, last);
    covered = true;
    for (const reader of readers) handOut(reader, rows, committed - rows.length + lost);
    if (performance.now() - sweptAt > sweepEveryMs) {
      await store.sweep();
      sweptAt = performance.now();
    }
  }

  return {
    async *open(filter, signal) {
      for (const over of [signal, closing.signal]) over.throwIfAborted();
      if (readers.size >= maxReaders) {
        throw new ConnectError(
          `this server lets ${maxReaders} streams tail the log at once: end one and call again`,
          Code.ResourceExhausted,
        );
      }
      const [queue, begun, end] = [new TailQueue(), Promise.withResolvers<void>(), new AbortController()];
      const reader: Reader = { filter, queue, begun, end };
      readers.add(reader);
      // Though it may never be asked for more: neither it nor its rows must stay.
      end.signal.addEventListener("abort", () => readers.delete(reader), { once: true });
      signal.addEventListener("abort", () => end.abort(signal.reason), { once: true });
      start();
      // Nothing that is committed from here on is before what the poller has seen.
      if (seen !== undefined) begun.resolve();
      try {
        await untilAborted(begun.promise, end.signal);
        yield { rows: [], skipped: 0 };
        for (;;) yield await queue.next(end.signal);
      } finally {
        readers.delete(reader);
      }
    },
    get size() {
      return readers.size;
    },
    async close() {
      closing.abort(new ConnectError("the server is stopping: call again", Code.Unavailable));
      for (const { end } of readers) end.abort(closing.signal.reason);
      await running;
    },
  };
}

function handOut({ filter, queue, begun }: Reader, rows: readonly RequestLogRow[], skipped: number): void {
  begun.resolve();
  queue.push(rows.filter((row) => matches(row, filter)));
  queue.skip(skipped);
}

/** The first batches that have no more rows than that together; one in any case. */
function takeUpTo(batches: readonly TailedBatch[], maxRows: number): readonly TailedBatch[] {
  let rows = 0;
  const end = batches.findIndex((batch, i) => {
    rows += batch.rows;
    return rows > maxRows && i > 0;
  });
  return end < 0 ? batches : batches.slice(0, end);
}

/**
 * Moves on to batches that were read. Returns how many between are missing: swept
 * before they were read, lost in a crash of Postgres, or committed while there was
 * no lease. How many rows they had, nobody knows.
 */
function advance(seen: LastBatches, batches: readonly TailedBatch[]): number {
  let missing = 0;
  for (const { instanceId, batch } of batches) {
    const before = seen.get(instanceId) ?? batch - 1;
    missing += batch - before - 1;
    seen.set(instanceId, batch);
  }
  return missing;
}

/** Moves on to what is known to be committed, though it left no keys. Returns how many batches that were. */
function advanceTo(seen: LastBatches, last: LastBatches): number {
  let missing = 0;
  for (const [instanceId, batch] of last) {
    const before = seen.get(instanceId) ?? 0;
    missing += Math.max(0, batch - before);
    seen.set(instanceId, Math.max(before, batch));
  }
  return missing;
}
