/** Which entry makes room. */
import { none } from "./grant-part.ts";
import { NumberColumn } from "./number-column.ts";

/**
 * Chooses as SIEVE does (Zhang and others, NSDI 2024): a hand goes from the earliest
 * entry to the latest, over and over, and stops at the first that was not used since it
 * came by. A use moves nothing here, so that a look-up need not come here at all.
 */
export class Sieve {
  readonly #earlier = new NumberColumn();
  readonly #later = new NumberColumn();
  #earliest = none;
  #latest = none;
  #hand = none;

  /** Adds an entry as the latest. */
  add(entry: number): void {
    this.#earlier.set(entry, this.#latest);
    this.#later.set(entry, none);
    if (this.#latest === none) this.#earliest = entry;
    else this.#later.set(this.#latest, entry);
    this.#latest = entry;
  }

  remove(entry: number): void {
    const earlier = this.#earlier.get(entry);
    const later = this.#later.get(entry);
    if (this.#hand === entry) this.#hand = later;
    if (earlier === none) this.#earliest = later;
    else this.#later.set(earlier, later);
    if (later === none) this.#latest = earlier;
    else this.#earlier.set(later, earlier);
  }

  /** The entry that makes room; `none`: there is no entry. Takes the uses of those that it passes. */
  choose(takeUse: (entry: number) => boolean): number {
    let entry = this.#hand === none ? this.#earliest : this.#hand;
    while (entry !== none && takeUse(entry)) {
      const later = this.#later.get(entry);
      entry = later === none ? this.#earliest : later;
    }
    this.#hand = entry;
    return entry;
  }

  clear(): void {
    this.#earliest = this.#latest = this.#hand = none;
  }
}
