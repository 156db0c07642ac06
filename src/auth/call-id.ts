/** Ids of calls. */
import { randomFillSync } from "node:crypto";

const randomBytesOfASeries = 10;
/** Random bytes are cheaper by the page than by the series. */
const pool = new Uint8Array(256 * randomBytesOfASeries);
let used = pool.length;

const digits = Buffer.from("0123456789abcdef");
/** Where the version and the counter after it are in an id, four digits. */
const counterStart = 14;
const counterEnd = 18;
const version = 0x7000;
const mostCounted = version | 0xfff;

/**
 * UUIDv7 (RFC 9562, section 5.7) of one millisecond, which differ in their counter alone (section 6.2, method 1):
 * so that the log need not write down the rest for each. An id is no secret.
 *
 * Written here and not by `uuid`, whose string of twenty parts is a twentieth of all that a call leaves behind.
 */
export class IdSeries {
  readonly #ms: number;
  /** The id that was made last, which the next one is written over. */
  readonly #text = Buffer.from("00000000-0000-7000-8000-000000000000");
  /** Of the next one. */
  #counter: number;

  /** Of a time in milliseconds since the epoch. */
  constructor(ms: number) {
    this.#ms = ms;
    if (used === pool.length) {
      randomFillSync(pool);
      used = 0;
    }
    const [first = 0, second = 0] = pool.subarray(used);
    const hex = Buffer.from(pool.buffer, used, randomBytesOfASeries).toString("hex");
    used += randomBytesOfASeries;
    const time = ms.toString(16).padStart(12, "0");
    this.#text.write(`${time.slice(0, 8)}-${time.slice(8)}`, 0, "latin1");
    this.#text[19] = digits[0b1000 | (first >> 6)] as number;
    this.#text.write(hex.slice(4, 7), 20, "latin1");
    this.#text.write(hex.slice(8), 24, "latin1");
    // The upper half is room to count in.
    this.#counter = version | (((first << 8) | second) & 0x7ff);
  }

  /** Whether there is a next one, of that time. */
  hasNext(ms: number): boolean {
    return ms === this.#ms && this.#counter <= mostCounted;
  }

  next(): string {
    return this.at(this.#counter++);
  }

  /** The id with this counter. */
  at(counter: number): string {
    const text = this.#text;
    for (let n = counterEnd - 1, rest = counter; n >= counterStart; n--, rest >>= 4) {
      text[n] = digits[rest & 15] as number;
    }
    return text.toString("latin1");
  }

  /** What its ids begin with. */
  get head(): string {
    return this.#text.toString("latin1", 0, counterStart);
  }

  /** What they end with. */
  get tail(): string {
    return this.#text.toString("latin1", counterEnd);
  }
}

let current = new IdSeries(0);

/** The series of a time in milliseconds since the epoch, for one more id. */
export function idSeriesAt(nowMs: number): IdSeries {
  if (!current.hasNext(nowMs)) current = new IdSeries(nowMs);
  return current;
}

/** By which an id is told from the others of its series: four hexadecimal digits as a number. */
export function counterOf(id: string): number {
  let counter = 0;
  for (let n = counterStart; n < counterEnd; n++) {
    const code = id.charCodeAt(n);
    counter = (counter << 4) | (code <= nine ? code - zero : code - letterA + 10);
  }
  return counter;
}

const zero = 0x30;
const nine = 0x39;
const letterA = 0x61;
