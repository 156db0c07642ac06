/** Sums over ended calls: what the counters and rollups are moved by. */
import type { EndedCall } from "../auth/call.ts";
import type { Subject } from "../auth/verdict.ts";
import { addToBucket } from "./histogram.ts";
import { dayMs, floorTo, minuteMs, refoldedMs } from "./range.ts";

/** What one key is to be counted up by. */
export interface KeyCount {
  requests: number;
  lastUsedMs: number;
}

/** One row to be merged into a rollup. */
export interface Rollup {
  readonly bucketMs: number;
  readonly service: string;
  readonly method: string;
  readonly code: number;
  readonly denialReason: string;
  /** Undefined in rollups by method. */
  readonly apiKeyId: string | undefined;
  readonly userId: bigint | undefined;
  requests: number;
  durationUs: number;
  requestBytes: number;
  responseBytes: number;
  readonly latency: number[];
}

/** What calls of one minute, method, code and denial add to. */
export interface MinuteTotals {
  readonly ofMethod: Rollup;
  /**
   * By whom calls named, though they may have been refused: an operator sees who still
   * calls with a key that has ended.
   */
  readonly ofKeys: Map<SubjectKey, Rollup>;
}

/** The key, else the user: a key is one user's. */
export type SubjectKey = string | bigint;

export interface Totals {
  readonly keys: Map<string, KeyCount>;
  readonly minutes: Map<string, MinuteTotals>;
}

/** Seconds in a bucket. Hours and days are folded from these: see `fold.ts`. */
export const periodS = minuteMs / 1000;

/** What ran for longer counts this long before its end: a day before its hour could not be folded again. */
const longestMs = refoldedMs - dayMs;

/** Stands for the key of a call that was signed in otherwise. */
export const noKey = "00000000-0000-0000-0000-000000000000";

export function emptyTotals(): Totals {
  return { keys: new Map(), minutes: new Map() };
}

export function methodRollupsOf(totals: Totals): Rollup[] {
  return Array.from(totals.minutes.values(), ({ ofMethod }) => ofMethod);
}

export function keyRollupsOf(totals: Totals): Rollup[] {
  return [...totals.minutes.values()].flatMap(({ ofKeys }) => [...ofKeys.values()]);
}

/** The minute that a call counts in. */
export function minuteOf({ startedAtMs, durationUs }: EndedCall): number {
  return floorTo(minuteMs, Math.max(startedAtMs, startedAtMs + durationUs / 1000 - longestMs));
}

/** What calls with a key add to. */
export function countOf(totals: Totals, apiKeyId: string): KeyCount {
  let count = totals.keys.get(apiKeyId);
  if (count === undefined) {
    count = { requests: 0, lastUsedMs: 0 };
    totals.keys.set(apiKeyId, count);
  }
  return count;
}

/** What calls of a minute add to that are of this one's method, code and denial. */
export function minuteTotalsOf(totals: Totals, call: EndedCall, minuteMs: number): MinuteTotals {
  const { method, code, verdict } = call;
  const alike = `${minuteMs} ${method.service} ${method.name} ${code} ${verdict?.denial}`;
  let minute = totals.minutes.get(alike);
  if (minute === undefined) {
    minute = { ofMethod: emptyRollup(call, minuteMs, undefined), ofKeys: new Map() };
    totals.minutes.set(alike, minute);
  }
  return minute;
}

export function subjectKeyOf({ apiKeyId, userId }: Subject): SubjectKey {
  return apiKeyId ?? userId;
}

/** What those of them add to that named the same subject as this one. */
export function keyRollupOf({ ofMethod, ofKeys }: MinuteTotals, call: EndedCall, subject: Subject): Rollup {
  const key = subjectKeyOf(subject);
  let rollup = ofKeys.get(key);
  if (rollup === undefined) {
    rollup = emptyRollup(call, ofMethod.bucketMs, subject);
    ofKeys.set(key, rollup);
  }
  return rollup;
}

function emptyRollup(call: EndedCall, bucketMs: number, subject: Subject | undefined): Rollup {
  return {
    bucketMs,
    service: call.method.service,
    method: call.method.name,
    code: call.code,
    denialReason: call.verdict?.denial ?? "",
    apiKeyId: subject === undefined ? undefined : (subject.apiKeyId ?? noKey),
    userId: subject?.userId,
    requests: 0,
    durationUs: 0,
    requestBytes: 0,
    responseBytes: 0,
    latency: [],
  };
}

/** Adds a call, whose duration is of a bucket of the histogram. */
export function addToRollup(rollup: Rollup, call: EndedCall, latencyBucket: number): void {
  rollup.requests++;
  rollup.durationUs += call.durationUs;
  rollup.requestBytes += call.requestBytes ?? 0;
  rollup.responseBytes += call.responseBytes ?? 0;
  addToBucket(rollup.latency, latencyBucket, 1);
}

/** Adds what was summed up elsewhere; not what is by key, where that is left out. */
export function addTotals(totals: Totals, more: Totals, leaveOut?: "by key"): void {
  for (const [apiKeyId, { requests, lastUsedMs }] of more.keys) {
    const count = countOf(totals, apiKeyId);
    count.requests += requests;
    count.lastUsedMs = Math.max(count.lastUsedMs, lastUsedMs);
  }
  for (const [alike, { ofMethod, ofKeys }] of more.minutes) {
    let minute = totals.minutes.get(alike);
    if (minute === undefined) {
      minute = { ofMethod: zero(ofMethod), ofKeys: new Map() };
      totals.minutes.set(alike, minute);
    }
    addRollup(minute.ofMethod, ofMethod);
    if (leaveOut !== undefined) continue;
    for (const [key, ofKey] of ofKeys) {
      const rollup = minute.ofKeys.get(key) ?? zero(ofKey);
      minute.ofKeys.set(key, rollup);
      addRollup(rollup, ofKey);
    }
  }
}

function zero(rollup: Rollup): Rollup {
  return { ...rollup, requests: 0, durationUs: 0, requestBytes: 0, responseBytes: 0, latency: [] };
}

function addRollup(rollup: Rollup, more: Rollup): void {
  rollup.requests += more.requests;
  rollup.durationUs += more.durationUs;
  rollup.requestBytes += more.requestBytes;
  rollup.responseBytes += more.responseBytes;
  more.latency.forEach((count, bucket) => {
    if (count > 0) addToBucket(rollup.latency, bucket, count);
  });
}
