/** How many RPCs run at once, and for whom there is room. */
import { Code, ConnectError } from "@connectrpc/connect";

export interface AdmissionOptions {
  /**
   * RPCs at once; more are answered `resource_exhausted`. Anonymous callers get half
   * of them, and those whose credential is still looked up a quarter.
   */
  maxConcurrentRpcs: number;
}

/** What an RPC holds of the room; its fields belong to the admission. */
export class Place {
  /** It counts against the room: it runs and was not refused. */
  admitted = false;
  /** It counts against the anonymous callers' half. */
  anonymous = false;
  /** Answered however many RPCs run. */
  readonly isUncapped: boolean;

  constructor(isUncapped: boolean) {
    this.isUncapped = isUncapped;
  }
}

export interface Admission {
  /** RPCs that run, refused ones included. */
  readonly running: number;
  /** RPCs refused for want of room, since the start. */
  readonly refusals: number;
  /** Takes an RPC in. Returns the refusal where there is no room; it runs nonetheless, until `leave`. */
  enter(place: Place): ConnectError | undefined;
  /** Whose RPC it is, is known. Returns the refusal where there is no room for anonymous ones. */
  decided(place: Place, isAnonymous: boolean): ConnectError | undefined;
  /** Waits for what decides whose RPC it is. Rejects at once where too many wait. */
  waitFor<T>(place: Place, decision: Promise<T>): Promise<T>;
  /** A refused RPC runs until it is answered, but takes no room. */
  refused(place: Place): void;
  /** The RPC has ended. */
  leave(place: Place): void;
  /** Resolves when none runs. */
  idle(): Promise<void>;
}

export function createAdmission({ maxConcurrentRpcs }: AdmissionOptions): Admission {
  const mostAnonymous = Math.ceil(maxConcurrentRpcs / 2);
  const mostUndecided = Math.ceil(maxConcurrentRpcs / 4);
  let running = 0;
  let admitted = 0;
  let anonymous = 0;
  let undecided = 0;
  let refusals = 0;
  let onIdle: (() => void)[] = [];

  function refused(place: Place): void {
    if (place.admitted) admitted--;
    if (place.anonymous) anonymous--;
    place.admitted = false;
    place.anonymous = false;
  }

  function tooMany(): ConnectError {
    refusals++;
    return new ConnectError("too many calls at once: try again", Code.ResourceExhausted);
  }

  return {
    get running() {
      return running;
    },
    get refusals() {
      return refusals;
    },
    enter(place) {
      running++;
      if (admitted >= maxConcurrentRpcs && !place.isUncapped) return tooMany();
      admitted++;
      place.admitted = true;
      return undefined;
    },
    decided(place, isAnonymous) {
      // Half of the room is for callers that are known: the others cannot hold all of it.
      if (!isAnonymous || place.isUncapped) return undefined;
      if (anonymous >= mostAnonymous) return tooMany();
      anonymous++;
      place.anonymous = true;
      return undefined;
    },
    async waitFor(place, decision) {
      undecided++;
      try {
        // Bad credentials that wait for a slow database must not hold the room of good ones that are in memory.
        if (!place.isUncapped && undecided > mostUndecided) {
          decision.catch(() => {});
          throw tooMany();
        }
        return await decision;
      } finally {
        undecided--;
      }
    },
    refused,
    leave(place) {
      refused(place);
      if (--running > 0) return;
      for (const resolve of onIdle) resolve();
      onIdle = [];
    },
    idle: () => (running === 0 ? Promise.resolve() : new Promise((resolve) => onIdle.push(resolve))),
  };
}
