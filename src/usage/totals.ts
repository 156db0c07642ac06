/** Sums over ended calls: what the counters and rollups are moved by. */
import type { EndedCall } from "../auth/call.ts";
import type { MethodName } from "../auth/method-name.ts";
import type { DenialReason, Subject } from "../auth/verdict.ts";
import { addDuration } from "./histogram.ts";
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

export interface Totals {
  readonly keys: Map<string, KeyCount>;
  readonly methodRollups: Map<string, Rollup>;
  readonly keyRollups: Map<string, Rollup>;
}

/** Seconds in a bucket. Hours and days are folded from these: see `fold.ts`. */
export const periodS = minuteMs / 1000;

/** What ran for longer counts this long before its end: a day before its hour could not be folded again. */
const longestMs = refoldedMs - dayMs;

/** Stands for the key of a call that was signed in otherwise. */
export const noKey = "00000000-0000-0000-0000-000000000000";

export function emptyTotals(): Totals {
  return { keys: new Map(), methodRollups: new Map(), keyRollups: new Map() };
}

/** Adds a call to the counters and to the rollups by method. Bounded: a number a key. */
export function addCounts(totals: Totals, call: EndedCall): void {
  const apiKeyId = call.verdict?.principal?.apiKeyId;
  if (apiKeyId !== undefined) addKeyCount(totals.keys, apiKeyId, 1, call.startedAtMs);
  addRollup(totals.methodRollups, call, undefined);
}

/**
 * Adds a call to the rollups by key: of whom it named, though it may have been
 * refused, as the request log has it. An operator sees by it who still calls with
 * a key that has ended.
 */
export function addKeyRollups(totals: Totals, call: EndedCall): void {
  const subject = call.verdict?.subject;
  if (subject !== undefined) addRollup(totals.keyRollups, call, subject);
}

function addKeyCount(
  keys: Map<string, KeyCount>,
  apiKeyId: string,
  requests: number,
  lastUsedMs: number,
): void {
  const count = keys.get(apiKeyId);
  if (count === undefined) {
    keys.set(apiKeyId, { requests, lastUsedMs });
    return;
  }
  count.requests += requests;
  count.lastUsedMs = Math.max(count.lastUsedMs, lastUsedMs);
}

function addRollup(rollups: Map<string, Rollup>, call: EndedCall, subject: Subject | undefined): void {
  addToRollup(findRollup(rollups, call, bucketOf(call), subject), call);
}

/** The minute that a call counts in. */
function bucketOf({ startedAtMs, durationUs }: EndedCall): number {
  return floorTo(minuteMs, Math.max(startedAtMs, startedAtMs + durationUs / 1000 - longestMs));
}

function findRollup(
  rollups: Map<string, Rollup>,
  call: EndedCall,
  bucketMs: number,
  subject: Subject | undefined,
): Rollup {
  const service = call.method.service;
  const method = call.method.name;
  const denialReason = call.verdict?.denial ?? "";
  const apiKeyId = subject === undefined ? undefined : (subject.apiKeyId ?? noKey);
  const key = `${apiKeyId ?? ""} ${subject?.userId ?? ""} ${bucketMs} ${service} ${method} ${call.code} ${denialReason}`;
  let rollup = rollups.get(key);
  if (rollup === undefined) {
    rollup = {
      bucketMs,
      service,
      method,
      code: call.code,
      denialReason,
      apiKeyId,
      userId: subject?.userId,
      requests: 0,
      durationUs: 0,
      requestBytes: 0,
      responseBytes: 0,
      latency: [],
    };
    rollups.set(key, rollup);
  }
  return rollup;
}

function addToRollup(rollup: Rollup, call: EndedCall): void {
  rollup.requests++;
  rollup.durationUs += call.durationUs;
  rollup.requestBytes += call.requestBytes ?? 0;
  rollup.responseBytes += call.responseBytes ?? 0;
  addDuration(rollup.latency, call.durationUs);
}

/** Where the last call of a method was added: most often the next one goes there too. */
interface Recent {
  readonly bucketMs: number;
  readonly code: number;
  readonly denial: DenialReason | undefined;
  readonly ofMethod: Rollup;
  /** By key, of calls with one. */
  readonly ofKeys: Map<string, Rollup>;
}

/** Adds calls to all of the totals, as `addCounts` and `addKeyRollups` do. */
export function addCalls(totals: Totals, calls: readonly EndedCall[]): void {
  const recents = new Map<MethodName, Recent>();
  for (const call of calls) {
    const { verdict, code } = call;
    const bucketMs = bucketOf(call);
    let recent = recents.get(call.method);
    if (recent?.bucketMs !== bucketMs || recent.code !== code || recent.denial !== verdict?.denial) {
      const ofMethod = findRollup(totals.methodRollups, call, bucketMs, undefined);
      recent = { bucketMs, code, denial: verdict?.denial, ofMethod, ofKeys: new Map() };
      recents.set(call.method, recent);
    }
    addToRollup(recent.ofMethod, call);
    if (verdict === undefined) continue;
    const { principal, subject } = verdict;
    if (principal?.apiKeyId !== undefined) addKeyCount(totals.keys, principal.apiKeyId, 1, call.startedAtMs);
    if (subject === undefined) continue;
    const { apiKeyId } = subject;
    let ofKey = apiKeyId === undefined ? undefined : recent.ofKeys.get(apiKeyId);
    if (ofKey === undefined) {
      ofKey = findRollup(totals.keyRollups, call, bucketMs, subject);
      if (apiKeyId !== undefined) recent.ofKeys.set(apiKeyId, ofKey);
    }
    addToRollup(ofKey, call);
  }
}
