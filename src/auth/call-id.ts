/** Ids of calls. */
import { randomFillSync } from "node:crypto";

const randomBytesOfAnId = 10;
/** Random bytes are cheaper by the page than by the id. */
const pool = new Uint8Array(256 * randomBytesOfAnId);
let used = pool.length;

const digits = Buffer.from("0123456789abcdef");
/** The id that was made last, which the next one is written over: what is new of it is a third. */
const text = Buffer.from("00000000-0000-7000-8000-000000000000");
let writtenMs = 0;
/** Of the ids of one millisecond, by which they are in their order (RFC 9562, section 6.2, method 1). */
let counter = 0;
const mostCounted = 0xfff;

/**
 * A UUIDv7 (RFC 9562, section 5.7) of a time in milliseconds since the epoch. Written here and
 * not by `uuid`, whose string of twenty parts is a twentieth of all that a call leaves behind.
 */
export function createCallId(nowMs: number): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  if (nowMs === writtenMs) counter = Math.min(counter + 1, mostCounted);
  else {
    text.write(nowMs.toString(16).padStart(12, "0"), 0, "latin1");
    text.copyWithin(9, 8, 12);
    text[8] = dash;
    writtenMs = nowMs;
    // The upper half is room to count in.
    counter = ((byteAt(0) << 8) | byteAt(1)) & 0x7ff;
  }
  writeDigit(15, counter >> 8);
  writeDigit(16, counter >> 4);
  writeDigit(17, counter);
  writeDigit(19, 0b1000 | ((byteAt(1) >> 4) & 0b11));
  writeByte(20, 2);
  writeDigit(22, byteAt(3));
  for (let i = 0; i < 6; i++) writeByte(24 + 2 * i, 4 + i);
  used += randomBytesOfAnId;
  return text.toString("latin1");
}

const dash = 0x2d;

/** Of the random bytes of this id. */
function byteAt(index: number): number {
  return pool[used + index] as number;
}

function writeByte(at: number, index: number): void {
  const byte = byteAt(index);
  text[at] = digits[byte >> 4] as number;
  text[at + 1] = digits[byte & 15] as number;
}

/** Of the lower four bits. */
function writeDigit(at: number, byte: number): void {
  text[at] = digits[byte & 15] as number;
}
