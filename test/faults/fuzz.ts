/** Hostile input without end: mutations of a corpus, the same for the same seed. */
import type { TestContext } from "node:test";
import fc from "fast-check";

/** Printed with every result: FUZZ_SEED repeats a run, FUZZ_SCALE makes it so many times as long. */
export const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
export const scale = Number(process.env.FUZZ_SCALE ?? 1);

/** A random number from 0 to below 1. */
export type Random = () => number;

/** Mulberry32, by Tommy Ettinger: small, fast and good enough to mutate by. */
export function randomFrom(start: number): Random {
  let state = start | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const pick = <T>(random: Random, values: readonly T[]): T =>
  values[Math.floor(random() * values.length)] as T;

const odd = [
  "",
  " ",
  "\t",
  "\r\n",
  "\0",
  "\x7f",
  "\x80",
  "\xff",
  "é",
  "🗝",
  "\ud800",
  "%",
  "%00",
  "%2f",
  "/",
  "//",
  "*",
  ".",
  "..",
  ",",
  ";",
  ":",
  "::",
  "=",
  "-",
  "_",
  "0",
  "-1",
  "00",
  "1e3",
  "0x1",
  "NaN",
  "null",
  "{}",
  "[]",
  '"',
  "'",
  "\\",
  "../",
  "$1",
  "__proto__",
  "constructor",
  "toString",
  "ffff:",
  "255",
  "256",
  "4294967296",
  "9223372036854775808",
  "A".repeat(600),
];

/** One to four changes to a text: characters changed, put in and taken out, parts repeated, cut off and exchanged. */
export function mutate(random: Random, text: string, corpus: readonly string[]): string {
  let mutant = text;
  for (let changes = 1 + Math.floor(random() * 4); changes > 0; changes--) {
    const at = Math.floor(random() * (mutant.length + 1));
    const to = at + Math.floor(random() * 8);
    const [head, tail] = [mutant.slice(0, at), mutant.slice(to)];
    switch (Math.floor(random() * 8)) {
      case 0:
        mutant = head + String.fromCharCode(Math.floor(random() * 256)) + mutant.slice(at + 1);
        break;
      case 1:
        mutant = head + pick(random, odd) + mutant.slice(at);
        break;
      case 2:
        mutant = head + tail;
        break;
      case 3:
        mutant = head + mutant.slice(at, to).repeat(2) + tail;
        break;
      case 4:
        mutant = head;
        break;
      case 5:
        mutant = head + pick(random, corpus).slice(Math.floor(random() * 20));
        break;
      case 6:
        mutant = random() < 0.5 ? mutant.toUpperCase() : mutant.toLowerCase();
        break;
      default:
        mutant = head + mutant.charAt(at + 1) + mutant.charAt(at) + mutant.slice(at + 2);
    }
  }
  return mutant.slice(0, 4000);
}

const perCase = 100;

/**
 * Checks so many mutations of a corpus, and the corpus itself. A failure tells the
 * text, and the seed that it comes from.
 */
export function checkMutants(
  t: TestContext,
  cases: number,
  corpus: readonly string[],
  check: (mutant: string, random: Random) => void,
): void {
  for (const text of corpus) check(text, randomFrom(seed));
  const numRuns = Math.ceil((cases * scale) / perCase);
  fc.assert(
    fc.property(fc.integer(), (start) => {
      const random = randomFrom(start);
      for (let n = 0; n < perCase; n++) {
        const mutant = mutate(random, pick(random, corpus), corpus);
        try {
          check(mutant, random);
        } catch (error) {
          throw new Error(`${JSON.stringify(mutant)}: ${error}`, { cause: error });
        }
      }
    }),
    { seed, numRuns, endOnFailure: true },
  );
  t.diagnostic(`${numRuns * perCase + corpus.length} cases, seed ${seed}`);
}

/** Checks so many values of a kind. */
export function checkAll<T>(
  t: TestContext,
  cases: number,
  kind: fc.Arbitrary<T>,
  check: (value: T) => void,
): void {
  fc.assert(fc.property(kind, check), { seed, numRuns: cases * scale });
  t.diagnostic(`${cases * scale} cases, seed ${seed}`);
}
