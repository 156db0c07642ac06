/** What one reader of the tail has yet to get: bounded, however slow it is. */
import { untilAborted } from "../auth/until-aborted.ts";
import type { RequestLogRow } from "./row.ts";

export interface TailMessage {
  readonly rows: RequestLogRow[];
  /** Rows left out since the message before. */
  readonly skipped: number;
}

/** Rows that wait for one reader. */
export const maxWaitingRows = 1000;
const maxMessageRows = 100;

export class TailQueue {
  #rows: RequestLogRow[] = [];
  #skipped = 0;
  #wake = Promise.withResolvers<void>();

  /** Rows that wait now. */
  get size(): number {
    return this.#rows.length;
  }

  /** Adds rows; where there is no room, they are counted only. */
  push(rows: readonly RequestLogRow[]): void {
    const room = Math.max(0, maxWaitingRows - this.#rows.length);
    this.#rows.push(...rows.slice(0, room));
    this.skip(Math.max(0, rows.length - room));
  }

  /** Counts rows that were left out. */
  skip(rows: number): void {
    this.#skipped += rows;
    if (this.#rows.length > 0 || this.#skipped > 0) this.#wake.resolve();
  }

  /** What comes next, as soon as there is something. Rejects with the signal's reason. Not to be called twice at once. */
  async next(signal: AbortSignal): Promise<TailMessage> {
    await untilAborted(this.#wake.promise, signal);
    const message = { rows: this.#rows.splice(0, maxMessageRows), skipped: this.#skipped };
    this.#skipped = 0;
    if (this.#rows.length === 0) this.#wake = Promise.withResolvers();
    return message;
  }
}
