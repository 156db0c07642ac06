/** The grants that are in memory, by what they are looked up by, and found again by what they hang on. */
import type { Grant, Terms } from "../auth/grant.ts";
import { GrantIndex } from "./grant-index.ts";
import { none } from "./grant-part.ts";
import { GrantTable } from "./grant-table.ts";
import { Sieve } from "./sieve.ts";

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

/** Creates it, for so many entries. */
export function createGrantMemory(maxEntries: number): GrantMemory {
  const maxSize = maxEntries * maxMeanSize;
  const table = new GrantTable(maxEntries);
  const sieve = new Sieve();
  const index = new GrantIndex();
  /** Of sessions, by their entries; on the clock of performance.now(). */
  const staleAtMs = new Map<number, number>();
  /** Entries that were removed: their numbers are given again. */
  let free: number[] = [];
  let entries = 0;
  let size = 0;

  function find(name: string): number {
    const at = table.find(name);
    if (at === none || !table.isTimed(at)) return at;
    const entry = table.entryAt(at);
    if (performance.now() < staleAtMs.get(entry)!) return at;
    remove(entry);
    return none;
  }

  function grantAt(at: number): Grant {
    return { principal: table.principalAt(at), terms: table.termsAt(at) };
  }

  function add(name: string, grant: Grant): void {
    const { principal, terms } = grant;
    const entry = free.pop() ?? entries;
    const isSession = principal.sessionId !== undefined;
    table.add(name, entry, grant, isSession);
    if (isSession) staleAtMs.set(entry, performance.now() + sessionTtlMs);
    sieve.add(entry);
    index.add(principal, entry);
    entries++;
    size += sizeOf(terms);
  }

  function remove(entry: number): void {
    const at = table.placeOf(entry);
    const { principal, terms } = grantAt(at);
    table.remove(at);
    staleAtMs.delete(entry);
    sieve.remove(entry);
    index.remove(principal, entry);
    entries--;
    size -= sizeOf(terms);
    free.push(entry);
  }

  const takeUse = (entry: number) => table.takeUse(table.placeOf(entry));

  return {
    get(name) {
      const at = find(name);
      if (at === none) return undefined;
      table.use(at);
      return grantAt(at);
    },
    peek(name) {
      const at = find(name);
      return at === none ? undefined : grantAt(at);
    },
    put(name, grant) {
      const before = table.find(name);
      if (before !== none) remove(table.entryAt(before));
      const needed = sizeOf(grant.terms);
      if (needed > maxSize) return;
      while (entries >= maxEntries || size + needed > maxSize) remove(sieve.choose(takeUse));
      add(name, grant);
    },
    dropKey: (apiKeyId) => index.ofKey(apiKeyId).forEach(remove),
    dropSession: (sessionId) => index.ofSession(sessionId).forEach(remove),
    dropUser: (userId) => index.ofUser(userId).forEach(remove),
    clear() {
      for (const each of [table, sieve, index, staleAtMs]) each.clear();
      free = [];
      entries = size = 0;
    },
    get size() {
      return entries;
    },
  };
}

/** In kilobytes, roughly. */
function sizeOf({ allowedMethods, allowedAddresses }: Terms): number {
  const patterns = allowedMethods.reduce((sum, pattern) => sum + pattern.length + 32, 0);
  return 1 + Math.floor((patterns + allowedAddresses.length * 256) / 1024);
}
