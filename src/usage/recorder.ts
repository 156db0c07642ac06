/** Gathers ended calls and commits them in groups: exact counts without a statement per request. */
import { Code } from "@connectrpc/connect";
import type { CallRecorder, EndedCall } from "../auth/call.ts";
import type { MethodName } from "../auth/method-name.ts";
import { sqlState } from "../db/client.ts";
import { within } from "../within.ts";
import type { UsageBatch, WriteUsage } from "./store.ts";
import { addCalls, addCounts, emptyTotals, type Totals } from "./totals.ts";

export interface RecorderOptions {
  write: WriteUsage;
  /**
   * "batched": a call is answered at once and committed within `intervalMs`; a
   * killed process loses at most that. "strict": a call is answered once it is
   * committed, and `unavailable` where it cannot be.
   */
  durability: "batched" | "strict";
  /** The methods whose calls are logged and counted; default all. */
  records?: (method: MethodName) => boolean;
  /** Milliseconds; default 100. Half of it gathers, half is left for the commit. */
  intervalMs?: number;
  /** Rows in one batch at most; default 4,000, which take Postgres about as long as `intervalMs` leaves for the commit. */
  maxBatchRows?: number;
  /** Rows kept while the database is down, then the oldest are dropped, though still counted; default 100,000. */
  maxPendingRows?: number;
  onError: (message: string, error: unknown) => void;
}

export interface Recorder extends CallRecorder {
  /** Log rows dropped since the start: calls that were counted but have no row. */
  readonly droppedRows: number;
  /** Calls that are not committed yet. */
  readonly pendingCalls: number;
  /** When the call ended that has waited longest, by performance.now(); undefined: none waits. */
  readonly oldestPendingMs: number | undefined;
  /** Commits what is there. Rejects when the database does not take it within the time. */
  close(timeoutMs: number): Promise<void>;
}

interface Pending {
  call: EndedCall;
  /** Strict: tells the call's answer that it may go. */
  settle?: { resolve: () => void; reject: (error: unknown) => void };
}

const retryMs = { first: 50, most: 1000 };
/** Postgres' state for a row whose partition was attached while it was on its way to the default one. */
const wrongPartition = "23514";
/** So often in a row a batch is tried again for it, before its rows are suspected. */
const maxMisses = 3;
/** Strict: so long a batch waits at most for callers to call again. */
const longestExpectedMs = 20;
/** A commit that takes longer counts as failed. It may yet succeed: the batch's number keeps it from counting twice. */
const writeTimeoutMs = 10_000;

/** Creates the recorder. It has one writer: a second one gains nothing. */
export function createRecorder(options: RecorderOptions): Recorder {
  const strict = options.durability === "strict";
  const records = options.records ?? (() => true);
  const gatherMs = (options.intervalMs ?? 100) / 2;
  const maxBatchRows = options.maxBatchRows ?? 4000;
  const maxPendingRows = options.maxPendingRows ?? 100_000;

  const pending: Pending[] = [];
  /** Of calls whose row was dropped. */
  let rowless: Totals = emptyTotals();
  let batchNumber = 0;
  let droppedRows = 0;
  let droppedSinceReport = 0;
  let failing = false;
  let writing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let abandoned = false;
  let inBatch = 0;
  let oldestInBatch: EndedCall | undefined;
  /** Strict: the next batch waits for so many calls, and so long, by performance.now(). */
  let expected = 0;
  let expectedByMs = 0;

  const hasWork = () => pending.length > 0 || rowless.methodRollups.size > 0 || rowless.keys.size > 0;

  function schedule(): void {
    if (writing !== undefined || !hasWork()) return;
    const waitMs = strict ? expectedByMs - performance.now() : gatherMs;
    if (pending.length >= (strict ? expected : maxBatchRows) || waitMs <= 0 || closed) startWriting();
    else timer ??= setTimeout(startWriting, waitMs);
  }

  /**
   * Strict: whoever was answered often calls again at once, and one commit of all costs far less than two
   * of halves. They are waited for as long as the last batch took.
   */
  function expectAgain(answered: number, tookMs: number): void {
    expected = Math.min(maxBatchRows, pending.length + answered);
    expectedByMs = performance.now() + Math.min(tookMs, longestExpectedMs);
  }

  function startWriting(): void {
    clearTimeout(timer);
    timer = undefined;
    writing = writeNext().finally(() => {
      writing = undefined;
      schedule();
    });
  }

  /** Forms the next batch and tries until the database has taken it. */
  async function writeNext(): Promise<void> {
    // What ends in this turn of the event loop shares the commit.
    await new Promise((resolve) => setImmediate(resolve));
    const startedMs = performance.now();
    const taken = pending.splice(0, maxBatchRows);
    const counted = rowless;
    rowless = emptyTotals();
    const number = ++batchNumber;
    let withRows = true;
    let misses = 0;
    for (let waitMs = retryMs.first; ; ) {
      inBatch = taken.length;
      oldestInBatch = taken[0]?.call;
      const calls = taken.map(({ call }) => call);
      const batch: UsageBatch = { number, calls: withRows ? calls : [], totals: sum(calls, counted) };
      try {
        await within(writeTimeoutMs, options.write(batch));
        break;
      } catch (error) {
        // The next try finds the partition.
        if (sqlState(error) === wrongPartition && ++misses <= maxMisses) continue;
        if (isAboutTheData(error) && withRows && taken.length > 0) {
          // Half of it, until the row that is refused stands alone.
          if (taken.length > 1) pending.unshift(...taken.splice(Math.ceil(taken.length / 2)));
          else withRows = false;
          continue;
        }
        if (!failing) options.onError("usage cannot be written; it is kept and tried again", error);
        failing = true;
        refuseWaiting(taken, error);
        refuseWaiting(pending, error);
        if (abandoned) return;
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        waitMs = Math.min(retryMs.most, waitMs * 2);
      }
    }
    if (!withRows) countDropped(taken.length);
    inBatch = 0;
    oldestInBatch = undefined;
    failing = false;
    reportDropped();
    expectAgain(taken.length, performance.now() - startedMs);
    for (const { settle } of taken) settle?.resolve();
  }

  /** Strict: those who wait are answered `unavailable`, and that is what their rows say from now on. */
  function refuseWaiting(taken: Pending[], error: unknown): void {
    for (const item of taken) {
      if (item.settle === undefined) continue;
      item.settle.reject(error);
      delete item.settle;
      item.call = { ...item.call, code: Code.Unavailable, errorMessage: "could not be counted" };
    }
  }

  /** Makes room: the oldest rows go, their counts stay. */
  function dropOldest(): void {
    const excess = pending.length - maxPendingRows;
    if (excess <= 0) return;
    // Several at once: each splice moves the whole array.
    const dropped = pending.splice(0, Math.max(excess, Math.ceil(maxPendingRows / 100)));
    refuseWaiting(dropped, new Error("too many calls wait to be counted"));
    for (const { call } of dropped) addCounts(rowless, call);
    countDropped(dropped.length);
  }

  function countDropped(rows: number): void {
    droppedRows += rows;
    droppedSinceReport += rows;
  }

  function reportDropped(): void {
    if (droppedSinceReport === 0) return;
    options.onError(
      `${droppedSinceReport} request log rows were dropped; their calls are counted`,
      undefined,
    );
    droppedSinceReport = 0;
  }

  return {
    get droppedRows() {
      return droppedRows;
    },
    get pendingCalls() {
      return pending.length + inBatch;
    },
    get oldestPendingMs() {
      const oldest = oldestInBatch ?? pending[0]?.call;
      return oldest && oldest.startedMs + oldest.durationUs / 1000;
    },
    accepts: (method) => !strict || !failing || !records(method),
    record(call) {
      if (!records(call.method)) return undefined;
      const item: Pending = { call };
      const committed = strict
        ? new Promise<void>((resolve, reject) => {
            item.settle = { resolve, reject };
          })
        : undefined;
      // It was under way as the database went: nothing that is answered ok may be uncounted.
      if (failing) refuseWaiting([item], new Error("the database does not take it"));
      pending.push(item);
      dropOldest();
      schedule();
      return committed;
    },
    async close(timeoutMs) {
      closed = true;
      clearTimeout(timer);
      timer = undefined;
      const drain = async () => {
        while (!abandoned && (hasWork() || writing !== undefined)) {
          schedule();
          await writing;
        }
      };
      try {
        await within(timeoutMs, drain());
      } catch (error) {
        abandoned = true;
        const lost = pending.length + inBatch;
        throw new Error(`${lost} calls could not be written before the stop`, { cause: error });
      }
    },
  };
}

/** The totals of calls, added to those that have no row. */
function sum(calls: readonly EndedCall[], rowless: Totals): Totals {
  // A copy: what cannot be written is summed up again.
  const totals = rowless.methodRollups.size === 0 ? emptyTotals() : structuredClone(rowless);
  addCalls(totals, calls);
  return totals;
}

/**
 * Whether it is the values themselves that cannot be written, so that trying again
 * cannot help: Postgres refused them (classes 22, 23 and 54), or they are more than
 * Node can put into one statement.
 */
function isAboutTheData(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof RangeError || e instanceof TypeError) return true;
  }
  return /^(2[23]|54)/.test(sqlState(error) ?? "");
}
