/** The grants that are in memory, by what they are looked up by, and found again by what they hang on. */
import { LRUCache } from "lru-cache";
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

/** Creates it, for so many entries. Those that were longest unused make room. */
export function createGrantMemory(maxEntries: number): GrantMemory {
  const grants = new LRUCache<string, Grant>({
    max: maxEntries,
    maxSize: maxEntries * maxMeanSize,
    sizeCalculation: sizeOf,
    dispose: (grant, name) => unindex(grant, name),
  });
  // A key has one name and there are many keys: a set for each would cost more than the key.
  const byKey = new Map<string, string>();
  const byUser = new Map<bigint, Set<string>>();
  /** Of sessions: by their own ids, and by those of their keys. */
  const bySession = new Map<string, Set<string>>();

  function unindex({ apiKeyId, session, userId }: Grant, name: string): void {
    if (session !== undefined) {
      removeFrom(bySession, session.id, name);
      if (apiKeyId !== undefined) removeFrom(bySession, apiKeyId, name);
    } else if (apiKeyId !== undefined && byKey.get(apiKeyId) === name) byKey.delete(apiKeyId);
    removeFrom(byUser, userId, name);
  }

  function drop(names: Iterable<string> = []): void {
    for (const name of [...names]) grants.delete(name);
  }

  return {
    get: (name) => grants.get(name),
    peek: (name) => grants.peek(name),
    put(name, grant) {
      const { apiKeyId, session, userId } = grant;
      grants.set(name, grant, session === undefined ? {} : { ttl: sessionTtlMs });
      if (!grants.has(name)) return;
      if (session !== undefined) {
        addTo(bySession, session.id, name);
        if (apiKeyId !== undefined) addTo(bySession, apiKeyId, name);
      } else if (apiKeyId !== undefined) byKey.set(apiKeyId, name);
      addTo(byUser, userId, name);
    },
    dropKey(apiKeyId) {
      const name = byKey.get(apiKeyId);
      if (name !== undefined) grants.delete(name);
      drop(bySession.get(apiKeyId));
    },
    dropSession: (sessionId) => drop(bySession.get(sessionId)),
    dropUser: (userId) => drop(byUser.get(userId)),
    clear: () => grants.clear(),
    get size() {
      return grants.size;
    },
  };
}

/** In kilobytes, roughly. */
function sizeOf({ allowedMethods, allowedAddresses }: Grant): number {
  const patterns = allowedMethods.reduce((sum, pattern) => sum + pattern.length + 32, 0);
  return 1 + Math.floor((patterns + allowedAddresses.length * 256) / 1024);
}

function addTo<K>(sets: Map<K, Set<string>>, key: K, name: string): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([name]));
  else set.add(name);
}

function removeFrom<K>(sets: Map<K, Set<string>>, key: K, name: string): void {
  const set = sets.get(key);
  set?.delete(name);
  if (set?.size === 0) sets.delete(key);
}
