/** Gathers ended calls and commits them in groups: exact counts without a statement per request. */
import type { CallRecorder, EndedCall } from "../auth/call.ts";
import type { MethodName } from "../auth/method-name.ts";
import { within } from "../within.ts";
import { isAboutTheData, isWrongPartition, maxMisses } from "./batch-errors.ts";
import { createBurst } from "./burst.ts";
import { GatheredCalls } from "./gathered-calls.ts";
import { Group, uncounted } from "./group.ts";
import type { UsageBatch, WriteUsage } from "./store.ts";
import { addTotals, emptyTotals, type Totals } from "./totals.ts";
import type { Unpacking } from "./unpack.ts";

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
  /** Rows in one pack at most; default 10,000, as packing one takes Postgres a tenth of writing it. */
  maxPackRows?: number;
  /** Rows kept while the database is down, then the oldest are dropped, though still counted; default 100,000. */
  maxPendingRows?: number;
  /** Undefined: each row is written as one. */
  packs?: Pick<Unpacking, "mayPack" | "packed">;
  /** Batches are packed while more calls than this end a second: see `createBurst`. Default 15,000, about as many as can be tailed. */
  packAbove?: number;
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

const retryMs = { first: 50, most: 1000 };
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
  const { packs, packAbove = 15_000, maxPackRows = 10_000 } = options;

  const burst = createBurst(packAbove);
  /** Whether the last batch was packed. */
  let isPacking = false;
  /** The last one is gathering. */
  const pending: Group[] = [];
  let pendingRows = 0;
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
  let inBatch: Group | undefined;
  /** Strict: the next batch waits for so many calls, and so long, by performance.now(). */
  let expected = 0;
  let expectedByMs = 0;
  /** In the group before. */
  let lastRows = 0;

  /** In a group: pending rows are dropped by the group. */
  const mostRows = () => Math.min(isPacking ? maxPackRows : maxBatchRows, maxPendingRows);
  const hasWork = () => pendingRows > 0 || rowless.minutes.size > 0;

  function schedule(): void {
    if (writing !== undefined || !hasWork()) return;
    const waitMs = strict ? expectedByMs - performance.now() : gatherMs;
    if (pendingRows >= (strict ? expected : mostRows()) || waitMs <= 0 || closed) startWriting();
    else timer ??= setTimeout(startWriting, waitMs);
  }

  /**
   * Strict: whoever was answered often calls again at once, and one commit of all costs far less than two
   * of halves. They are waited for as long as the last batch took.
   */
  function expectAgain(answered: number, tookMs: number): void {
    expected = Math.min(maxBatchRows, pendingRows + answered);
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
    const counted = rowless;
    rowless = emptyTotals();
    const number = ++batchNumber;
    let group = takeFirst();
    let withRows = true;
    const isBurst = burst.add(group.calls.rows, startedMs - group.oldestMs);
    isPacking = group.calls.rows > 0 && isBurst && packs?.mayPack() === true;
    let isPacked = isPacking;
    let misses = 0;
    for (let waitMs = retryMs.first; ; ) {
      inBatch = group;
      const calls = withRows ? group.calls : new GatheredCalls();
      const totals = sum(group.calls.totals, counted);
      const batch: UsageBatch = { number, calls, totals, isPacked };
      try {
        await within(writeTimeoutMs, options.write(batch));
        break;
      } catch (error) {
        // The next try finds the partition.
        if (isWrongPartition(error) && ++misses <= maxMisses) continue;
        if (isAboutTheData(error) && withRows && group.calls.rows > 0) {
          isPacked = false;
          // Half of it, until the row that is refused stands alone.
          if (group.calls.rows > 1) group = putBackHalf(group);
          else withRows = false;
          continue;
        }
        if (!failing) options.onError("usage cannot be written; it is kept and tried again", error);
        failing = true;
        for (const each of [group, ...pending]) each.refuse(error);
        if (abandoned) return;
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        waitMs = Math.min(retryMs.most, waitMs * 2);
      }
    }
    if (!withRows) countDropped(group.calls.rows);
    if (isPacked) packs?.packed(group.calls.rows);
    inBatch = undefined;
    failing = false;
    reportDropped();
    expectAgain(group.calls.rows, performance.now() - startedMs);
    group.settle();
  }

  /** What is written next; empty where only counts wait. */
  function takeFirst(): Group {
    const group = pending.shift() ?? new Group(0);
    pendingRows -= group.calls.rows;
    lastRows = group.calls.rows;
    return group;
  }

  /** The group that the next call belongs to. */
  function gathering({ startedMs, durationUs }: EndedCall): Group {
    let group = pending.at(-1);
    if (group === undefined || group.calls.rows >= mostRows()) {
      // There will likely be as many as there were.
      group = new Group(startedMs + durationUs / 1000, lastRows);
      pending.push(group);
    }
    return group;
  }

  /** Keeps the first half of a group; the rest is pending again. */
  function putBackHalf(group: Group): Group {
    const [first, second] = group.halves();
    pending.unshift(second);
    pendingRows += second.calls.rows;
    return first;
  }

  /** Makes room: the oldest rows go, their counts stay. */
  function dropOldest(): void {
    while (pendingRows > maxPendingRows) {
      const group = takeFirst();
      group.refuse(new Error("too many calls wait to be counted"));
      // By key they would take a number a minute each.
      addTotals(rowless, group.calls.totals, "by key");
      countDropped(group.calls.rows);
    }
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
      return pendingRows + (inBatch?.calls.rows ?? 0);
    },
    get oldestPendingMs() {
      // Without rows it has counts alone.
      return (inBatch?.calls.rows ? inBatch : pending[0])?.oldestMs;
    },
    accepts: (method) => !strict || !failing || !records(method),
    record(call) {
      if (!records(call.method)) return undefined;
      const group = gathering(call);
      let committed: Promise<void> | undefined;
      if (!strict) group.calls.add(call);
      else if (!failing) committed = group.addWaiting(call);
      else {
        // It was under way as the database went: nothing that is answered ok may be uncounted.
        group.calls.add(uncounted(call));
        committed = Promise.reject(new Error("the database does not take it"));
      }
      pendingRows++;
      if (pendingRows > maxPendingRows) dropOldest();
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
        const lost = pendingRows + (inBatch?.calls.rows ?? 0);
        throw new Error(`${lost} calls could not be written before the stop`, { cause: error });
      }
    },
  };
}

/** Totals, added to those of calls that have no row. They stay as they are: what cannot be written is summed up again. */
function sum(totals: Totals, rowless: Totals): Totals {
  if (rowless.minutes.size === 0) return totals;
  const all = emptyTotals();
  addTotals(all, rowless);
  addTotals(all, totals);
  return all;
}
