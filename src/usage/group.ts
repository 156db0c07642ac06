/** Calls that are committed together, and those who wait for it. */
import { Code } from "@connectrpc/connect";
import type { EndedCall } from "../auth/call.ts";
import { GatheredCalls } from "./gathered-calls.ts";

/** Rows that there is room for at least. */
const fewRows = 64;

export class Group {
  /** When the first call ended, by performance.now(). */
  readonly oldestMs: number;
  #calls: GatheredCalls;
  /** Strict: tell calls' answers that they may go, by row. */
  #waiting = new Map<number, PromiseWithResolvers<void>>();

  /** With room for so many calls at first. */
  constructor(oldestMs: number, room = fewRows) {
    this.oldestMs = oldestMs;
    this.#calls = new GatheredCalls(Math.max(fewRows, room));
  }

  get calls(): GatheredCalls {
    return this.#calls;
  }

  /** Adds a call whose answer waits. Resolves once it is committed. */
  addWaiting(call: EndedCall): Promise<void> {
    const committed = Promise.withResolvers<void>();
    this.#waiting.set(this.#calls.rows, committed);
    this.#calls.add(call);
    return committed.promise;
  }

  /** Lets all answers go. */
  settle(): void {
    for (const { resolve } of this.#waiting.values()) resolve();
  }

  /** Those who wait are answered `unavailable`, and that is what their rows say from now on. */
  refuse(error: unknown): void {
    if (this.#waiting.size === 0) return;
    const calls = this.#calls;
    const waiting = this.#waiting;
    this.#calls = new GatheredCalls(calls.rows);
    this.#waiting = new Map();
    for (let row = 0; row < calls.rows; row++) {
      const call = calls.at(row);
      this.#calls.add(waiting.has(row) ? uncounted(call) : call);
    }
    for (const { reject } of waiting.values()) reject(error);
  }

  /** Two of half as many calls. This one is not to be used any more. */
  halves(): [Group, Group] {
    const halves: [Group, Group] = [new Group(this.oldestMs), new Group(this.oldestMs)];
    const middle = Math.ceil(this.#calls.rows / 2);
    for (let row = 0; row < this.#calls.rows; row++) {
      const half = halves[row < middle ? 0 : 1] as Group;
      const waiting = this.#waiting.get(row);
      if (waiting !== undefined) half.#waiting.set(half.#calls.rows, waiting);
      half.#calls.add(this.#calls.at(row));
    }
    return halves;
  }
}

/** As its caller is answered where it could not be counted. */
export function uncounted(call: EndedCall): EndedCall {
  return { ...call, code: Code.Unavailable, errorMessage: "could not be counted" };
}
