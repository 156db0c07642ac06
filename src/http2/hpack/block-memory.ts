/** What header blocks came to, by their octets: for those that leave the dynamic table as it is. */
import type { HeaderBlock } from "./header-block.ts";

const places = 64;
const maxBlockBytes = 1024;
/** Of the lists and blocks that are in it. */
const maxBytes = 64 * 1024;

interface Remembered {
  readonly hash: number;
  readonly octets: Uint8Array;
  readonly bytes: number;
  readonly list: HeaderBlock;
}

/**
 * Each block has two places, the second of which is for what had to leave the first. A hash
 * of the octets and a comparison cost less than a string to look up would.
 */
export class BlockMemory {
  readonly #remembered: (Remembered | undefined)[] = new Array(places).fill(undefined);
  /** The hash that came last for each place. */
  readonly #came = new Int32Array(places);
  #hash = 0;
  #bytes = 0;

  /** Undefined: it does not remember block[from..to). */
  find(block: Uint8Array, from: number, to: number): HeaderBlock | undefined {
    const length = to - from;
    if (length > maxBlockBytes) return undefined;
    const hash = hashBlock(block, from, to);
    this.#hash = hash;
    const place = hash & (places - 1);
    const first = this.#remembered[place];
    if (first !== undefined && isSame(first, hash, block, from, length)) return first.list;
    const second = this.#remembered[place ^ 1];
    if (second !== undefined && isSame(second, hash, block, from, length)) return second.list;
    return undefined;
  }

  /**
   * The block is the one that was not found just now. Of those that came for the first time,
   * only `isLikely` ones are remembered: others may be of a client that sends something new
   * each time.
   */
  put(block: Uint8Array, from: number, to: number, list: HeaderBlock, isLikely: boolean): void {
    if (to - from > maxBlockBytes || list.isTooLarge) return;
    const hash = this.#hash;
    const place = hash & (places - 1);
    if (!isLikely && this.#came[place] !== hash) {
      this.#came[place] = hash;
      return;
    }
    const bytes = to - from + list.bytes;
    if (bytes > maxBytes) return;
    if (this.#bytes + bytes > maxBytes) this.forget();
    const dropped = this.#remembered[place ^ 1];
    this.#bytes += bytes - (dropped?.bytes ?? 0);
    this.#remembered[place ^ 1] = this.#remembered[place];
    // Not a Buffer's slice, which would keep the whole of what came with it.
    const octets = Uint8Array.prototype.slice.call(block, from, to);
    this.#remembered[place] = { hash, octets, bytes, list };
  }

  /** All of it: the dynamic table has changed, and with it what the octets mean. */
  forget(): void {
    if (this.#bytes === 0) return;
    this.#remembered.fill(undefined);
    this.#bytes = 0;
  }
}

/** FNV-1a, from the length on. */
export function hashBlock(block: Uint8Array, from: number, to: number): number {
  let hash = to - from;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ (block[i] as number), 0x01000193);
  return hash ^ (hash >>> 15);
}

function isSame(known: Remembered, hash: number, block: Uint8Array, from: number, length: number): boolean {
  if (known.hash !== hash || known.octets.length !== length) return false;
  const { octets } = known;
  for (let i = 0; i < length; i++) {
    if (octets[i] !== block[from + i]) return false;
  }
  return true;
}
