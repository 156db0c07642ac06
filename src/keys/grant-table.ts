/** The grants in memory, by what they are looked up by. */
import { randomFillSync } from "node:crypto";
import type { Grant, Terms } from "../auth/grant.ts";
import type { Principal } from "../auth/principal.ts";
import { digestWords, emptyDigest, readName } from "./digest.ts";
import { GrantPart, none } from "./grant-part.ts";
import { NumberColumn } from "./number-column.ts";

/** Of a part, on the average of full memory: about as many as a part can grow for without a pause that a call would notice. */
const entriesPerPart = 32_768;

/**
 * The table, in parts that grow each for itself. Its callers give each grant a number
 * of their own, its entry; `at` is where it stands for now, which changes with what is added and removed.
 *
 * Which digests there are is not left to chance alone: whoever imports keys can try
 * tokens until the digests of many begin alike. Where a digest stands is therefore a
 * sum over all of it with random factors (multiply-shift, after Dietzfelbinger and others, 1997).
 */
export class GrantTable {
  readonly #partBits: number;
  readonly #factors: Int32Array;
  #parts: GrantPart[] = [];
  readonly #placeOf = new NumberColumn();
  readonly #wanted = emptyDigest();
  /** Of what is wanted. */
  #hash = 0;
  /**
   * By entries, and so in the order in which they came, which is about that of memory. For the garbage collector:
   * it follows the last property first, and principals in the order of digests would cost it a wait for memory each.
   */
  #principals: (Principal | undefined)[] = [];

  /** Factors: random where none are given. */
  constructor(maxEntries: number, factors = randomFillSync(new Int32Array(digestWords))) {
    this.#partBits = Math.ceil(Math.log2(Math.max(1, maxEntries / entriesPerPart)));
    this.#factors = factors;
    this.clear();
  }

  /** Where a name's grant is; `none`: nowhere. */
  find(name: string): number {
    this.#read(name);
    const part = this.#partOf();
    const slot = this.#parts[part]!.find(this.#wanted, this.#slotHash());
    return slot === none ? none : (part << 16) | slot;
  }

  /** Adds what cannot be found yet; timed: `isTimed` tells. */
  add(name: string, entry: number, grant: Grant, timed: boolean): void {
    this.#read(name);
    this.#principals[entry] = grant.principal;
    this.#parts[this.#partOf()]!.add(this.#wanted, this.#slotHash(), entry, grant, timed);
  }

  remove(at: number): void {
    this.#principals[this.entryAt(at)] = undefined;
    this.#partAt(at).remove(at & 0xffff);
  }

  clear(): void {
    this.#principals = [];
    this.#parts = Array.from({ length: 2 ** this.#partBits }, (_, part) => {
      return new GrantPart((entry, slot) => this.#placeOf.set(entry, (part << 16) | slot));
    });
  }

  placeOf(entry: number): number {
    return this.#placeOf.get(entry);
  }

  entryAt(at: number): number {
    return this.#partAt(at).entry(at & 0xffff);
  }

  principalAt(at: number): Principal {
    return this.#partAt(at).principal(at & 0xffff);
  }

  termsAt(at: number): Terms {
    return this.#partAt(at).terms(at & 0xffff);
  }

  isTimed(at: number): boolean {
    return this.#partAt(at).isTimed(at & 0xffff);
  }

  /** Marks it as used. */
  use(at: number): void {
    this.#partAt(at).use(at & 0xffff);
  }

  /** Whether it was used since it was asked last. */
  takeUse(at: number): boolean {
    return this.#partAt(at).takeUse(at & 0xffff);
  }

  #partAt(at: number): GrantPart {
    return this.#parts[at >>> 16]!;
  }

  #read(name: string): void {
    readName(name, this.#wanted);
    const { words } = this.#wanted;
    let hash = 0;
    for (let i = 0; i < digestWords; i++) hash = (hash + Math.imul(words[i]!, this.#factors[i]!)) | 0;
    this.#hash = hash;
  }

  /** The first bits of the hash. */
  #partOf(): number {
    return (this.#hash >>> 1) >>> (31 - this.#partBits);
  }

  /** The 16 bits after them. */
  #slotHash(): number {
    return (this.#hash << this.#partBits) >>> 16;
  }
}
