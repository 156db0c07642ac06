/** The grants that are in memory, by what they are looked up by, and found again by what they hang on. */
import type { Grant } from "../auth/grant.ts";

/**
 * Kilobytes of an entry, on the average of full memory: where keys are larger, fewer are
 * in it. Whoever may make keys could otherwise fill it with a hundred times as much.
 */
const maxMeanSize = 4;
/** After this a session is read again, so that its use is noted. */
const sessionTtlMs = 60_000;

export interface GrantMemory {
  get(name: string): Grant | undefined;
  /** As `get`, but does not count as use. */
  peek(name: string): Grant | undefined;
  /** Nothing is kept of what is larger than all that there is room for. */
  put(name: string, grant: Grant): void;
  /** With the sessions that it signed in. */
  dropKey(apiKeyId: string): void;
  dropSession(sessionId: string): void;
  dropUser(userId: bigint): void;
  clear(): void;
  readonly size: number;
}

interface Entry {
  readonly name: string;
  readonly grant: Grant;
  /** Of sessions; on the clock of performance.now(). */
  readonly staleAtMs: number | undefined;
  /** Since the hand came by. */
  wasUsed: boolean;
  earlier: Entry | undefined;
  later: Entry | undefined;
}

/**
 * Creates it, for so many entries. What makes room is chosen as SIEVE does (Zhang and
 * others, NSDI 2024): a hand goes from the earliest entry to the latest, over and over,
 * and takes the first that was not used since it came by. A use marks its entry and
 * moves nothing: among a million, each other place that is touched costs more than the rest of a look-up.
 */
export function createGrantMemory(maxEntries: number): GrantMemory {
  const maxSize = maxEntries * maxMeanSize;
  const entries = new Map<string, Entry>();
  let size = 0;
  let earliest: Entry | undefined;
  let latest: Entry | undefined;
  let hand: Entry | undefined;
  const byKey = new Index<string>();
  const byUser = new Index<bigint>();
  const bySession = new Index<string>();

  function find(name: string): Entry | undefined {
    const entry = entries.get(name);
    if (entry?.staleAtMs === undefined || performance.now() < entry.staleAtMs) return entry;
    remove(entry);
    return undefined;
  }

  function add(entry: Entry): void {
    const { apiKeyId, userId, sessionId } = entry.grant.passed.principal;
    entries.set(entry.name, entry);
    size += sizeOf(entry.grant);
    entry.earlier = latest;
    if (latest === undefined) earliest = entry;
    else latest.later = entry;
    latest = entry;
    if (apiKeyId !== undefined) byKey.add(apiKeyId, entry);
    if (sessionId !== undefined) bySession.add(sessionId, entry);
    byUser.add(userId, entry);
  }

  function remove(entry: Entry): void {
    const { earlier, later, grant } = entry;
    const { apiKeyId, userId, sessionId } = grant.passed.principal;
    entries.delete(entry.name);
    size -= sizeOf(grant);
    if (hand === entry) hand = later;
    if (earlier === undefined) earliest = later;
    else earlier.later = later;
    if (later === undefined) latest = earlier;
    else later.earlier = earlier;
    if (apiKeyId !== undefined) byKey.remove(apiKeyId, entry);
    if (sessionId !== undefined) bySession.remove(sessionId, entry);
    byUser.remove(userId, entry);
  }

  function makeRoom(): void {
    let candidate = hand ?? earliest;
    while (candidate?.wasUsed) {
      candidate.wasUsed = false;
      candidate = candidate.later ?? earliest;
    }
    if (candidate === undefined) return;
    hand = candidate;
    remove(candidate);
  }

  return {
    get(name) {
      const entry = find(name);
      // Asked first: writing what is there already would cost other processors' caches.
      if (entry !== undefined && !entry.wasUsed) entry.wasUsed = true;
      return entry?.grant;
    },
    peek: (name) => find(name)?.grant,
    put(name, grant) {
      const before = entries.get(name);
      if (before !== undefined) remove(before);
      const needed = sizeOf(grant);
      if (needed > maxSize) return;
      while (entries.size >= maxEntries || size + needed > maxSize) makeRoom();
      const isSession = grant.passed.principal.sessionId !== undefined;
      add({
        name,
        grant,
        staleAtMs: isSession ? performance.now() + sessionTtlMs : undefined,
        wasUsed: false,
        earlier: undefined,
        later: undefined,
      });
    },
    dropKey: (apiKeyId) => byKey.of(apiKeyId).forEach(remove),
    dropSession: (sessionId) => bySession.of(sessionId).forEach(remove),
    dropUser: (userId) => byUser.of(userId).forEach(remove),
    clear() {
      for (const map of [entries, byKey, byUser, bySession]) map.clear();
      size = 0;
      earliest = latest = hand = undefined;
    },
    get size() {
      return entries.size;
    },
  };
}

/** Entries by something that they hang on. Most have it to themselves: a set for each would cost more than the entry. */
class Index<K> {
  readonly #entries = new Map<K, Entry | Set<Entry>>();

  /** As they are now: they may be removed meanwhile. */
  of(key: K): Entry[] {
    const found = this.#entries.get(key);
    if (found === undefined) return [];
    return found instanceof Set ? [...found] : [found];
  }

  add(key: K, entry: Entry): void {
    const found = this.#entries.get(key);
    if (found === undefined) this.#entries.set(key, entry);
    else if (found instanceof Set) found.add(entry);
    else this.#entries.set(key, new Set([found, entry]));
  }

  remove(key: K, entry: Entry): void {
    const found = this.#entries.get(key);
    if (found instanceof Set) {
      found.delete(entry);
      if (found.size === 0) this.#entries.delete(key);
    } else if (found === entry) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}

/** In kilobytes, roughly. */
function sizeOf({ allowedMethods, allowedAddresses }: Grant): number {
  const patterns = allowedMethods.reduce((sum, pattern) => sum + pattern.length + 32, 0);
  return 1 + Math.floor((patterns + allowedAddresses.length * 256) / 1024);
}
