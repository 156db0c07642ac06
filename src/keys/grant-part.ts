/** A part of the grants in memory: an open-addressing table, so that a look-up touches little memory. */
import type { Grant, Terms } from "../auth/grant.ts";
import type { Principal } from "../auth/principal.ts";
import { type Digest, digestWords } from "./digest.ts";

export const none = -1;
/** As many as the bits of a hash here can tell apart. */
export const maxSlots = 65_536;
const firstSlots = 16;
const growth = 1.5;
/** Beyond, look-ups would go past many others. */
const maxLoad = 0.75;

/** A slot's record: its state, its entry's number, and the digest. State 0: nothing is there. */
const recordWords = 2 + digestWords;
const isDigest = 1;
const isOfName = 2;
const isTimed = 4;
const wasUsed = 8;
/** What has to be the same: the hash, in the upper half, and which kind of name it is. */
const identity = ~(isTimed | wasUsed);

/**
 * What a look-up compares and marks stands side by side in typed arrays, and what it
 * answers with beside each other too: among a million it waits for memory once, where
 * in a Map of objects it would go from one place to the next five times.
 *
 * Slots follow the order of hashes, as far as they are free (linear probing), so that
 * growing is one pass through old and new.
 */
export class GrantPart {
  #slots = firstSlots;
  #records = new Int32Array(firstSlots * recordWords);
  /** By twos: whom a slot's grant lets in, and its terms. */
  #grants: (Principal | Terms | undefined)[] = new Array(2 * firstSlots).fill(undefined);
  #size = 0;
  /** Told of each entry that comes to a slot, or moves to another. */
  readonly #onPlace: (entry: number, slot: number) => void;

  constructor(onPlace: (entry: number, slot: number) => void) {
    this.#onPlace = onPlace;
  }

  /** The slot of a digest with a hash of 16 bits; `none`: it is not here. */
  find(digest: Digest, hash: number): number {
    const records = this.#records;
    const grants = this.#grants;
    const wanted = (hash << 16) | (digest.isOfName ? isOfName : isDigest);
    for (let slot = this.#home(wanted); ; ) {
      // Asked first, though the state says it too: so the processor fetches both at the same time.
      if (grants[2 * slot] === undefined) return none;
      const state = records[slot * recordWords]!;
      if ((state & identity) === wanted && this.#isAt(slot, digest.words)) return slot;
      if (++slot === this.#slots) slot = 0;
    }
  }

  /** Adds what is not here yet. */
  add(digest: Digest, hash: number, entry: number, grant: Grant, timed: boolean): void {
    if (this.#size >= this.#slots * maxLoad && this.#slots < maxSlots) this.#grow();
    const state = (hash << 16) | (digest.isOfName ? isOfName : isDigest) | (timed ? isTimed : 0);
    const slot = this.#freeSlot(state);
    this.#records[slot * recordWords] = state;
    this.#records.set(digest.words, slot * recordWords + 2);
    this.#put(slot, entry, grant.principal, grant.terms);
    this.#size++;
  }

  /** What follows without a gap moves up, where that brings it nearer to where it belongs. */
  remove(slot: number): void {
    const slots = this.#slots;
    const ahead = (from: number, to: number) => (to < from ? to - from + slots : to - from);
    let gap = slot;
    for (let next = slot; ; ) {
      if (++next === slots) next = 0;
      const state = this.#records[next * recordWords]!;
      if (state === 0) break;
      if (ahead(this.#home(state), next) < ahead(gap, next)) continue;
      this.#move(this.#records, this.#grants, next, gap);
      gap = next;
    }
    this.#records[gap * recordWords] = 0;
    this.#grants[2 * gap] = this.#grants[2 * gap + 1] = undefined;
    this.#size--;
  }

  principal(slot: number): Principal {
    return this.#grants[2 * slot] as Principal;
  }

  terms(slot: number): Terms {
    return this.#grants[2 * slot + 1] as Terms;
  }

  entry(slot: number): number {
    return this.#records[slot * recordWords + 1]!;
  }

  isTimed(slot: number): boolean {
    return (this.#records[slot * recordWords]! & isTimed) !== 0;
  }

  /** Marks it as used. Looked at first: what is written has to be written back, too. */
  use(slot: number): void {
    const state = this.#records[slot * recordWords]!;
    if ((state & wasUsed) === 0) this.#records[slot * recordWords] = state | wasUsed;
  }

  /** Whether it was used since it was asked last. */
  takeUse(slot: number): boolean {
    const state = this.#records[slot * recordWords]!;
    this.#records[slot * recordWords] = state & ~wasUsed;
    return (state & wasUsed) !== 0;
  }

  /** The slot where a state belongs: its hash, as a fraction of all. */
  #home(state: number): number {
    return Math.imul(state >>> 16, this.#slots) >>> 16;
  }

  /** All 256 bits, at once: they are most likely the same. */
  #isAt(slot: number, words: Int32Array): boolean {
    const records = this.#records;
    const at = slot * recordWords + 2;
    return (
      ((records[at]! ^ words[0]!) |
        (records[at + 1]! ^ words[1]!) |
        (records[at + 2]! ^ words[2]!) |
        (records[at + 3]! ^ words[3]!) |
        (records[at + 4]! ^ words[4]!) |
        (records[at + 5]! ^ words[5]!) |
        (records[at + 6]! ^ words[6]!) |
        (records[at + 7]! ^ words[7]!)) ===
      0
    );
  }

  #freeSlot(state: number): number {
    let slot = this.#home(state);
    while (this.#records[slot * recordWords] !== 0) if (++slot === this.#slots) slot = 0;
    return slot;
  }

  #put(slot: number, entry: number, principal: Principal, terms: Terms): void {
    this.#records[slot * recordWords + 1] = entry;
    this.#grants[2 * slot] = principal;
    this.#grants[2 * slot + 1] = terms;
    this.#onPlace(entry, slot);
  }

  #move(records: Int32Array, grants: (Principal | Terms | undefined)[], from: number, to: number): void {
    for (let i = 0; i < recordWords; i++) {
      this.#records[to * recordWords + i] = records[from * recordWords + i]!;
    }
    const entry = records[from * recordWords + 1]!;
    this.#put(to, entry, grants[2 * from] as Principal, grants[2 * from + 1] as Terms);
  }

  #grow(): void {
    const slots = this.#slots;
    const records = this.#records;
    const grants = this.#grants;
    this.#slots = Math.min(Math.ceil(slots * growth), maxSlots);
    this.#records = new Int32Array(this.#slots * recordWords);
    this.#grants = new Array(2 * this.#slots).fill(undefined);
    for (let slot = 0; slot < slots; slot++) {
      const state = records[slot * recordWords]!;
      if (state !== 0) this.#move(records, grants, slot, this.#freeSlot(state));
    }
  }
}
