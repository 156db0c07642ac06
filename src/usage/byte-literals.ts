/**
 * Many values as text, without a string for each: written into bytes that are used again, and made a
 * string in one piece. Strings joined from others would be copied when they are sent, and live until
 * the batch is committed, which is long enough to get old.
 */

const openingBrace = 0x7b;
const closingBrace = 0x7d;
const comma = 0x2c;
const minus = 0x2d;
const zero = 0x30;
/** Characters of a number at most, as JavaScript prints it, and a comma. */
const longest = 32;

let bytes = Buffer.allocUnsafe(4096);

/** The literal of an array in Postgres: of so many numbers, from the first on, less a base. */
export function numbersLiteral(numbers: Float64Array | Int32Array, count: number, base = 0): string {
  if (count === 0) return "{}";
  makeRoom(count * longest);
  let at = 0;
  bytes[at++] = openingBrace;
  for (let i = 0; i < count; i++) {
    const value = (numbers[i] as number) - base;
    // What does not fit into 32 bits is rare.
    at = value === (value | 0) ? writeInteger(value, at) : at + bytes.write(String(value), at, "latin1");
    bytes[at++] = comma;
  }
  bytes[at - 1] = closingBrace;
  return bytes.toString("latin1", 0, at);
}

function makeRoom(length: number): void {
  if (bytes.length < length) bytes = Buffer.allocUnsafe(length);
}

/** Writes 32 bits, signed; returns where it ends. */
function writeInteger(value: number, at: number): number {
  let rest = value;
  if (rest < 0) {
    bytes[at++] = minus;
    rest = -rest;
  }
  let end = at + 1;
  for (let bound = 10; rest >= bound; bound *= 10) end++;
  for (let i = end - 1; i >= at; i--) {
    const tenth = Math.floor(rest / 10);
    bytes[i] = zero + rest - tenth * 10;
    rest = tenth;
  }
  return end;
}
