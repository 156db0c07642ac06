/** Entries of grants by what they hang on: a key, a session, a user. */
import type { Principal } from "../auth/principal.ts";

export class GrantIndex {
  readonly #byKey = new Index<string>();
  readonly #bySession = new Index<string>();
  readonly #byUser = new Index<bigint>();

  add({ apiKeyId, sessionId, userId }: Principal, entry: number): void {
    if (apiKeyId !== undefined) this.#byKey.add(apiKeyId, entry);
    if (sessionId !== undefined) this.#bySession.add(sessionId, entry);
    this.#byUser.add(userId, entry);
  }

  remove({ apiKeyId, sessionId, userId }: Principal, entry: number): void {
    if (apiKeyId !== undefined) this.#byKey.remove(apiKeyId, entry);
    if (sessionId !== undefined) this.#bySession.remove(sessionId, entry);
    this.#byUser.remove(userId, entry);
  }

  /** Of a key and the sessions that it signed in. As they are now: they may be removed meanwhile. */
  ofKey(apiKeyId: string): readonly number[] {
    return this.#byKey.of(apiKeyId);
  }

  ofSession(sessionId: string): readonly number[] {
    return this.#bySession.of(sessionId);
  }

  ofUser(userId: bigint): readonly number[] {
    return this.#byUser.of(userId);
  }

  clear(): void {
    for (const index of [this.#byKey, this.#bySession, this.#byUser]) index.clear();
  }
}

/** Most have an entry to themselves: a set for each would cost more than the entry. */
class Index<K> {
  readonly #entries = new Map<K, number | Set<number>>();

  of(key: K): number[] {
    const found = this.#entries.get(key);
    if (found === undefined) return [];
    return found instanceof Set ? [...found] : [found];
  }

  add(key: K, entry: number): void {
    const found = this.#entries.get(key);
    if (found === undefined) this.#entries.set(key, entry);
    else if (found instanceof Set) found.add(entry);
    else this.#entries.set(key, new Set([found, entry]));
  }

  remove(key: K, entry: number): void {
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
