/** The dynamic table of either side (RFC 7541, sections 2.3.2 and 4). */
import { defaultTableBytes, fieldOverheadBytes } from "./tables.ts";

export interface TableEntry {
  /** With the overhead of an entry. */
  readonly bytes: number;
}

/**
 * First in, first out, in a ring. It starts with the size that the protocol starts with,
 * and may be resized up to `mostBytes`.
 */
export class DynamicTable<Entry extends TableEntry> {
  readonly #evicted: ((entry: Entry) => void) | undefined;
  readonly #ring: (Entry | undefined)[];
  readonly #mask: number;
  #maxBytes = defaultTableBytes;
  #bytes = 0;
  #length = 0;
  #added = 0;

  constructor(mostBytes: number, evicted?: (entry: Entry) => void) {
    const most = Math.floor(Math.max(mostBytes, defaultTableBytes) / fieldOverheadBytes);
    const places = 2 ** Math.ceil(Math.log2(most));
    this.#ring = new Array(places).fill(undefined);
    this.#mask = places - 1;
    this.#evicted = evicted;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** How many entries were ever added: an entry's place is told by the number of those before it. */
  get added(): number {
    return this.#added;
  }

  /** The latest entry is at 0. Undefined: there are not so many. */
  at(index: number): Entry | undefined {
    return index < this.#length ? this.#ring[(this.#added - 1 - index) & this.#mask] : undefined;
  }

  /** False: it is larger than the table, which is empty now (section 4.4). */
  add(entry: Entry): boolean {
    this.#evictAbove(this.#maxBytes - entry.bytes);
    if (entry.bytes > this.#maxBytes) return false;
    this.#ring[this.#added & this.#mask] = entry;
    this.#added++;
    this.#length++;
    this.#bytes += entry.bytes;
    return true;
  }

  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictAbove(maxBytes);
  }

  #evictAbove(bytes: number): void {
    while (this.#bytes > bytes && this.#length > 0) {
      const place = (this.#added - this.#length) & this.#mask;
      const oldest = this.#ring[place] as Entry;
      this.#ring[place] = undefined;
      this.#length--;
      this.#bytes -= oldest.bytes;
      this.#evicted?.(oldest);
    }
  }
}
