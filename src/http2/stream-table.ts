/** The streams of a connection that are open, by id. */
import { randomBytes } from "node:crypto";
import type { Http2Stream } from "./stream.ts";

const fewestSlots = 16;
/** It does not shrink below, since most connections would grow again at once. */
const mostIdleSlots = 512;

/**
 * A hash table of its own, since a Map in which entries come and go makes new tables all the time,
 * and each that is done with still points to the next one. Once one of them is old, a minor
 * collection takes for alive all that came after: streams, requests and answers are copied that
 * nobody can reach, which takes two fifths of what the server can do, until the next major one.
 */
export class StreamTable {
  #size = 0;
  #slots: (Http2Stream | undefined)[] = emptySlots(fewestSlots);
  #shift = 32 - Math.log2(fewestSlots);
  /** Odd, and unknown to the client, who chooses the ids: it could have all of them meet in one place. */
  readonly #multiplier = randomBytes(4).readUInt32LE() | 1;

  get size(): number {
    return this.#size;
  }

  get(id: number): Http2Stream | undefined {
    return this.#slots[this.#slotOf(id)];
  }

  /** Of an id that it does not hold. */
  add(stream: Http2Stream): void {
    // Half of them are empty at least, so that a search ends soon.
    if ((this.#size + 1) * 2 > this.#slots.length) this.#resize(this.#slots.length * 2);
    this.#slots[this.#slotOf(stream.id)] = stream;
    this.#size++;
  }

  /** Does nothing where it is not held. */
  delete(id: number): void {
    const slots = this.#slots;
    const last = slots.length - 1;
    let empty = this.#slotOf(id);
    if (slots[empty] === undefined) return;
    this.#size--;
    // Those that were put behind it for want of room move up, as long as their own place allows it.
    for (let at = (empty + 1) & last; ; at = (at + 1) & last) {
      const stream = slots[at];
      if (stream === undefined) break;
      const home = this.#homeOf(stream.id);
      if (((at - home) & last) < ((at - empty) & last)) continue;
      slots[empty] = stream;
      empty = at;
    }
    slots[empty] = undefined;
    if (slots.length > mostIdleSlots && this.#size * 8 < slots.length) this.#resize(slots.length / 2);
  }

  /** All of them at this moment, in the order of their ids. */
  list(): Http2Stream[] {
    return this.#slots.filter((stream) => stream !== undefined).sort((a, b) => a.id - b.id);
  }

  /** Where it is, or would be. */
  #slotOf(id: number): number {
    const slots = this.#slots;
    const last = slots.length - 1;
    let at = this.#homeOf(id);
    for (let stream = slots[at]; stream !== undefined && stream.id !== id; stream = slots[at]) {
      at = (at + 1) & last;
    }
    return at;
  }

  #homeOf(id: number): number {
    return Math.imul(id, this.#multiplier) >>> this.#shift;
  }

  #resize(slots: number): void {
    const before = this.#slots;
    this.#slots = emptySlots(slots);
    this.#shift = 32 - Math.log2(slots);
    for (const stream of before) if (stream !== undefined) this.#slots[this.#slotOf(stream.id)] = stream;
  }
}

function emptySlots(count: number): (Http2Stream | undefined)[] {
  return new Array<Http2Stream | undefined>(count).fill(undefined);
}
