/**
 * The calls of one batch, taken apart as they end: numbers in arrays, what many have in common once,
 * and their totals. Calls themselves are not kept: by the thousand they would outlive the youngest
 * generation, and be most of what the garbage collector has to do.
 */
import type { EndedCall } from "../auth/call.ts";
import type { IdSeries } from "../auth/call-id.ts";
import type { Subject } from "../auth/verdict.ts";
import { bucketOf } from "./histogram.ts";
import { Numbering, RunNumbering } from "./numbering.ts";
import { RowNumbers } from "./row-numbers.ts";
import {
  addToRollup,
  countOf,
  emptyTotals,
  type KeyCount,
  keyRollupOf,
  type MinuteTotals,
  minuteOf,
  minuteTotalsOf,
  type Rollup,
  type SubjectKey,
  subjectKeyOf,
} from "./totals.ts";

/** Calls that differ in ids, times, sizes, peers and what few calls have. */
interface Kin {
  /** One of them. */
  readonly call: EndedCall;
  /** The number of their kind. */
  readonly kind: number;
  /** The number of whom they named; 0: nobody. */
  readonly caller: number;
  /** What their key is counted up by; undefined: no key has them. */
  readonly count: KeyCount | undefined;
  /** Of the minute that the last one counts in. */
  minute: MinuteTotals;
  ofKey: Rollup | undefined;
}

interface Kind {
  /** One of them. */
  readonly call: EndedCall;
  readonly number: number;
  readonly kin: Map<SubjectKey | undefined, Kin>;
  /** That the last one counts in. */
  minute: MinuteTotals;
  /** That the last one was of. */
  lastKin: Kin | undefined;
}

/** Texts of rows that have one, by row. */
export type RowTexts = ReadonlyMap<number, string>;

/** Calls from the first row on. Numbers of what they have in common begin at 1. */
export class GatheredCalls {
  readonly totals = emptyTotals();
  readonly numbers: RowNumbers;
  /** Where they are not the call's own id. */
  readonly requestIds: RowTexts;
  readonly errorMessages: RowTexts;
  readonly traceIds: RowTexts;
  readonly #requestIds = new Map<number, string>();
  readonly #errorMessages = new Map<number, string>();
  readonly #traceIds = new Map<number, string>();
  readonly #kinds = new Numbering<EndedCall>();
  readonly #callers: Subject[] = [];
  readonly #callerNumbers = new Map<SubjectKey, number>();
  readonly #peers = new RunNumbering<string>();
  readonly #series = new RunNumbering<IdSeries>();
  /** By row. */
  readonly #kin: Kin[] = [];
  readonly #byNumber: Kind[] = [];
  #lastKind: Kind | undefined;

  /** With room for so many calls at first. */
  constructor(room = 64) {
    this.numbers = new RowNumbers(room);
    this.requestIds = this.#requestIds;
    this.errorMessages = this.#errorMessages;
    this.traceIds = this.#traceIds;
  }

  get rows(): number {
    return this.#kin.length;
  }

  /** A call of each kind: of what has few values, or there would be as many kinds as calls. */
  get kinds(): readonly EndedCall[] {
    return this.#kinds.first;
  }

  /** Whom calls named. */
  get callers(): readonly Subject[] {
    return this.#callers;
  }

  /** IP addresses that calls came from. */
  get peers(): readonly string[] {
    return this.#peers.first;
  }

  /** That their ids are of. */
  get series(): readonly IdSeries[] {
    return this.#series.first;
  }

  add(call: EndedCall): void {
    const minuteMs = minuteOf(call);
    const kind = this.#kindOf(call, minuteMs);
    if (kind.minute.ofMethod.bucketMs !== minuteMs) {
      kind.minute = minuteTotalsOf(this.totals, call, minuteMs);
    }
    const kin = this.#kinOf(kind, call);
    const latency = bucketOf(call.durationUs);
    addToRollup(kind.minute.ofMethod, call, latency);
    if (kin.ofKey !== undefined) addToRollup(kin.ofKey, call, latency);
    if (kin.count !== undefined) {
      kin.count.requests++;
      kin.count.lastUsedMs = Math.max(kin.count.lastUsedMs, call.startedAtMs);
    }
    const row = this.#kin.push(kin) - 1;
    const peer = this.#peers.numberOf(call.peerAddress);
    const series = this.#series.numberOf(call.idSeries);
    this.numbers.add(row, call, kin.kind, kin.caller, peer, series);
    const { id, requestId, errorMessage, traceId } = call;
    if (requestId !== id) this.#requestIds.set(row, requestId);
    if (errorMessage !== undefined) this.#errorMessages.set(row, errorMessage);
    if (traceId !== undefined) this.#traceIds.set(row, traceId);
  }

  /** A call as it was added, but for `startedMs`. */
  at(row: number): EndedCall {
    const { call } = this.#kin[row] as Kin;
    const idSeries = this.series[(this.numbers.series[row] as number) - 1] as IdSeries;
    const id = idSeries.at(this.numbers.counter[row] as number);
    return {
      ...call,
      ...this.numbers.at(row),
      id,
      idSeries,
      peerAddress: this.peers[(this.numbers.peer[row] as number) - 1],
      requestId: this.requestIds.get(row) ?? id,
      errorMessage: this.errorMessages.get(row),
      traceId: this.traceIds.get(row),
    };
  }

  /** Most often it is that of the call before. */
  #kindOf(call: EndedCall, minuteMs: number): Kind {
    if (this.#lastKind === undefined || !isAlike(this.#lastKind.call, call)) {
      const number = this.#kinds.numberOf(call, traitsOf(call));
      this.#lastKind = this.#byNumber[number] ??= {
        call,
        number,
        kin: new Map(),
        minute: minuteTotalsOf(this.totals, call, minuteMs),
        lastKin: undefined,
      };
    }
    return this.#lastKind;
  }

  #kinOf(kind: Kind, call: EndedCall): Kin {
    const { minute, lastKin } = kind;
    const subject = call.verdict?.subject;
    // Calls of one key share its principal while it is in memory.
    if (lastKin?.minute === minute && lastKin.call.verdict?.subject === subject) return lastKin;
    const key = subject && subjectKeyOf(subject);
    let kin = kind.kin.get(key);
    if (kin === undefined) {
      const counted = call.verdict?.principal?.apiKeyId;
      kin = {
        call,
        kind: kind.number,
        caller: subject === undefined ? 0 : this.#callerOf(subject),
        count: counted === undefined ? undefined : countOf(this.totals, counted),
        minute,
        ofKey: subject && keyRollupOf(minute, call, subject),
      };
      kind.kin.set(key, kin);
    } else if (kin.minute !== minute) {
      kin.minute = minute;
      kin.ofKey = subject && keyRollupOf(minute, call, subject);
    }
    kind.lastKin = kin;
    return kin;
  }

  #callerOf(subject: Subject): number {
    const key = subjectKeyOf(subject);
    let number = this.#callerNumbers.get(key);
    if (number === undefined) {
      number = this.#callers.push(subject);
      this.#callerNumbers.set(key, number);
    }
    return number;
  }
}

/** What makes a call's kind. */
function traitsOf({ method, protocol, code, verdict, userAgent }: EndedCall): unknown[] {
  const isCounted = verdict?.principal?.apiKeyId !== undefined;
  return [
    method.name,
    method.service,
    protocol,
    code,
    ...[verdict?.denial, verdict?.credentialKind, isCounted],
    userAgent,
  ];
}

/** Whether two calls have the same traits; false also where it takes a closer look to tell. */
function isAlike(a: EndedCall, b: EndedCall): boolean {
  return (
    a.method === b.method &&
    a.code === b.code &&
    a.protocol === b.protocol &&
    a.userAgent === b.userAgent &&
    (a.verdict === b.verdict || hasSameTraits(a.verdict, b.verdict))
  );
}

function hasSameTraits(a: EndedCall["verdict"], b: EndedCall["verdict"]): boolean {
  return (
    a?.denial === b?.denial &&
    a?.credentialKind === b?.credentialKind &&
    (a?.principal?.apiKeyId === undefined) === (b?.principal?.apiKeyId === undefined)
  );
}
