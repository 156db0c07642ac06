/** Grants in memory: the steady state of verdicts, behind the fence. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import {
  type Grant,
  type GrantChange,
  type GrantSource,
  GrantsUnavailableError,
  type StaffUser,
} from "../auth/grant.ts";
import { TimedOutError, within } from "../within.ts";
import type { Fence } from "./fence.ts";
import { createGrantMemory } from "./grant-memory.ts";
import { createGrantLookups, type LookupOptions } from "./lookups.ts";

export interface GrantCacheOptions {
  /** Of keys, by the hashes of their tokens. */
  readGrants: LookupOptions["readGrants"];
  /** Of sessions, by the hashes of their secrets. Reading one is using it. Undefined: there are none. */
  readSessions?: LookupOptions["readGrants"];
  /** Whether any key was imported: without one, a token of another shape is nobody's. */
  hasImportedKeys: () => Promise<boolean>;
  readFirstStaffUser: () => Promise<StaffUser | undefined>;
  fence: Fence;
  maxStalenessMs: number;
  /** While the database fails, what is cached answers up to this long after the fence's last proof; 0: not past it. */
  staleIfErrorMs: number;
  maxEntries: number;
}

/** A promise: the database has to be asked. */
type Found = Grant | undefined | Promise<Grant | undefined>;

export interface GrantCache extends GrantSource {
  readonly figures: {
    /** Since the start: look-ups that memory answered, be it that nobody has the key, and those that it did not. */
    readonly hits: number;
    readonly misses: number;
    /** Keys and sessions in memory. */
    readonly entries: number;
    /** Look-ups that wait for a statement. */
    readonly waiting: number;
  };
}

/** Tokens that no key has, remembered so that sending one again costs nothing. */
const maxMisses = 10_000;
/** However little changes: what a trigger was kept from telling is found out in the end. */
const missTtlMs = 60_000;
/** Reads at once, of whatever kind: beyond, there is no verdict to be had. Above what `lookups.ts` lets wait. */
const maxReads = 5000;

/**
 * Creates the cache. While the fence is fresh it answers from memory; otherwise
 * each look-up reads the database.
 *
 * Every change that is heard gets the next revision. A look-up notes the revision
 * at which it began; if what it found has changed since, it is read again: a slow
 * read can neither put back what a notification removed nor be answered with.
 */
export function createGrantCache(options: GrantCacheOptions): GrantCache {
  const { fence } = options;
  const lookups = createGrantLookups({
    readGrants: (names) => readNamed(names, options),
    timeoutMs: options.maxStalenessMs,
  });
  const grants = createGrantMemory(options.maxEntries);
  const misses = new LRUCache<string, true>({ max: maxMisses, ttl: missTtlMs });
  let databaseUp = true;
  let staff: { user: StaffUser | undefined } | undefined;
  let imported: boolean | undefined;
  let readingImported: Promise<boolean> | undefined;

  let revision = 0;
  let allChangedAt = 0;
  let newKeyAt = 0;
  let anyUserChangedAt = 0;
  /** Revisions of single changes; kept only while a read is under way. */
  const changedAt = new Map<string | bigint, number>();
  let reads = 0;
  const shared = new Map<string, Promise<Grant | undefined>>();
  const reading = new Map<string, Promise<Grant | undefined>>();
  const nextReading = new Map<string, Promise<Grant | undefined>>();

  fence.onDatabaseUp((up) => {
    databaseUp = up;
  });
  fence.onChange((change: GrantChange) => {
    // It is not used from here on; what it holds is for `staleIfErrorMs`.
    if (change.kind === "unheard") return;
    revision++;
    switch (change.kind) {
      case "all":
        allChangedAt = revision;
        grants.clear();
        misses.clear();
        staff = undefined;
        imported = undefined;
        return;
      case "new_key":
        // Its token may have been looked up before, in vain.
        newKeyAt = revision;
        // Asked first: clearing costs what the cache can hold, and an import tells of a thousand new keys at once.
        if (misses.size > 0) misses.clear();
        imported = undefined;
        return;
      case "new_user":
        anyUserChangedAt = revision;
        staff = undefined;
        return;
      case "key":
        if (reads > 0) changedAt.set(change.apiKeyId, revision);
        grants.dropKey(change.apiKeyId);
        return;
      case "session":
        if (reads > 0) changedAt.set(change.sessionId, revision);
        grants.dropSession(change.sessionId);
        return;
      case "user":
        anyUserChangedAt = revision;
        if (reads > 0) changedAt.set(change.userId, revision);
        grants.dropUser(change.userId);
        staff = undefined;
    }
  });

  function changedSince(since: number, grant: Grant | undefined): boolean {
    if (allChangedAt > since) return true;
    if (grant === undefined) return newKeyAt > since;
    const { apiKeyId, userId, sessionId } = grant.principal;
    const ids = [apiKeyId, userId, sessionId];
    return ids.some((id) => id !== undefined && (changedAt.get(id) ?? 0) > since);
  }

  /** Reads until nothing has changed meanwhile, within `maxStalenessMs`. */
  async function readSettled<T>(
    read: () => Promise<T>,
    changed: (since: number, found: T) => boolean,
  ): Promise<T> {
    if (reads >= maxReads) throw new GrantsUnavailableError("too many look-ups at once");
    reads++;
    try {
      return await within(options.maxStalenessMs, readUntilSettled(read, changed));
    } catch (error) {
      throw new GrantsUnavailableError("the database does not answer", { cause: error });
    } finally {
      if (--reads === 0) changedAt.clear();
    }
  }

  async function readUntilSettled<T>(
    read: () => Promise<T>,
    changed: (since: number, found: T) => boolean,
  ): Promise<T> {
    for (let mayFail = databaseUp; ; ) {
      const since = revision;
      let found: T;
      try {
        found = await read();
      } catch (error) {
        // Once: its connection may have been ended, and others be there. Not what waited in vain.
        if (!mayFail || error instanceof GrantsUnavailableError || error instanceof TimedOutError)
          throw error;
        mayFail = false;
        // What ended it often ended others too: that is known within this turn of the event loop.
        await nextTurn();
        continue;
      }
      if (!changed(since, found)) return found;
    }
  }

  const mayBeStale = () => performance.now() - fence.provenAtMs() <= options.staleIfErrorMs;

  /** What is cached, though the fence cannot vouch for it; only while the database fails and only where asked for. */
  function staleIfError<T>(cached: T | undefined, error: unknown): T {
    if (cached !== undefined && mayBeStale()) return cached;
    throw error;
  }

  /** The same at once where the database is known to fail: a call need not wait to see it fail again. */
  function staleWhileDown<T>(cached: T | undefined): T | undefined {
    return databaseUp || !mayBeStale() ? undefined : cached;
  }

  async function readGrant(hash: string, address: string | undefined): Promise<Grant | undefined> {
    const cached = grants.peek(hash);
    const source = cached === undefined ? { address } : "known";
    try {
      const fresh = fence.isFresh();
      const grant = await readSettled(() => lookups.read(hash, source), changedSince);
      // While the fence is down, what changes next would not be heard.
      if (!fresh || !fence.isFresh()) return grant;
      if (grant === undefined) misses.set(hash, true);
      else grants.put(hash, grant);
      return grant;
    } catch (error) {
      return staleIfError(cached, error);
    }
  }

  /**
   * While changes cannot be heard, a read must not answer for a look-up that began
   * after it. Those that come while one is under way share the next: two at a time
   * for one key, however many ask.
   */
  function readFromNowOn(hash: string, address: string | undefined): Promise<Grant | undefined> {
    const underWay = reading.get(hash);
    if (underWay === undefined) return startReading(hash, address);
    const waiting = nextReading.get(hash);
    if (waiting !== undefined) return waiting;
    const next = underWay
      .catch(() => {})
      .then(() => {
        nextReading.delete(hash);
        return startReading(hash, address);
      });
    nextReading.set(hash, next);
    return next;
  }

  function startReading(hash: string, address: string | undefined): Promise<Grant | undefined> {
    const started = readGrant(hash, address).finally(() => {
      if (reading.get(hash) === started) reading.delete(hash);
    });
    reading.set(hash, started);
    return started;
  }

  async function readImported(): Promise<boolean> {
    const any = await readSettled(
      options.hasImportedKeys,
      (since) => allChangedAt > since || newKeyAt > since,
    );
    if (fence.isFresh()) imported = any;
    return any;
  }

  /** Reads a grant, once for all who ask at the same time. */
  function share(hash: string, address: string | undefined): Promise<Grant | undefined> {
    const underWay = shared.get(hash);
    if (underWay !== undefined) return underWay;
    const reading = readGrant(hash, address).finally(() => shared.delete(hash));
    shared.set(hash, reading);
    return reading;
  }

  /** Looks it up in memory and, where that says nothing, in the database. */
  function find(hash: string, foreign: boolean, address: string | undefined): Found {
    if (!fence.isFresh()) return staleWhileDown(grants.peek(hash)) ?? readFromNowOn(hash, address);
    const cached = grants.get(hash);
    if (cached !== undefined) return cached;
    if (misses.has(hash)) return undefined;
    if (!foreign || imported === true) return share(hash, address);
    if (imported === false) return undefined;
    readingImported ??= readImported().finally(() => {
      readingImported = undefined;
    });
    return readingImported.then((any) => (any ? share(hash, address) : undefined));
  }

  function findSession(name: string, address: string | undefined): Found {
    if (!fence.isFresh()) return staleWhileDown(grants.peek(name)) ?? readFromNowOn(name, address);
    return grants.get(name) ?? (misses.has(name) ? undefined : share(name, address));
  }

  let hitCount = 0;
  let missCount = 0;

  function noted(found: Found): Found {
    if (found instanceof Promise) missCount++;
    else hitCount++;
    return found;
  }

  return {
    find: (hash, foreign, address) => noted(find(hash, foreign, address)),
    findSession: (hash, address) => noted(findSession(sessionName(hash), address)),
    async firstStaffUser() {
      if (fence.isFresh() && staff !== undefined) return staff.user;
      const cached = staff;
      const stale = fence.isFresh() ? undefined : staleWhileDown(cached);
      if (stale !== undefined) return stale.user;
      try {
        const user = await readSettled(
          options.readFirstStaffUser,
          (since) => allChangedAt > since || anyUserChangedAt > since,
        );
        if (fence.isFresh()) staff = { user };
        return user;
      } catch (error) {
        return staleIfError(cached, error).user;
      }
    },
    onChange: (listener) => fence.onChange(listener),
    get figures() {
      return { hits: hitCount, misses: missCount, entries: grants.size, waiting: lookups.waiting };
    },
  };
}

/** A session beside the keys: what two of them are found by must not be the same. */
const sessionPrefix = "session ";

function sessionName(hash: string): string {
  return `${sessionPrefix}${hash}`;
}

/** Reads keys by their hashes and sessions by their names, in a statement each. */
async function readNamed(
  names: readonly string[],
  { readGrants, readSessions }: Pick<GrantCacheOptions, "readGrants" | "readSessions">,
): Promise<ReadonlyMap<string, Grant>> {
  const sessions = names.filter((name) => name.startsWith(sessionPrefix));
  if (sessions.length === 0) return readGrants(names);
  const keys = names.filter((name) => !name.startsWith(sessionPrefix));
  const [ofKeys, ofSessions] = await Promise.all([
    keys.length === 0 ? [] : readGrants(keys),
    readSessions?.(sessions.map((name) => name.slice(sessionPrefix.length))) ?? [],
  ]);
  return new Map([...ofKeys, ...[...ofSessions].map(([hash, grant]) => [sessionName(hash), grant] as const)]);
}
