/** Which key is asked for next. */

/** Drawn once, so that drawing costs nothing while it is measured. */
const count = 2 ** 20;

/** Numbers below `keys`, each as often as every other. */
export function uniformDraws(keys: number): Uint32Array {
  return Uint32Array.from({ length: count }, () => Math.random() * keys);
}

/** Numbers below `keys`, the n-th of them in proportion to 1/n (Zipf), as traffic has few large callers and many small ones. */
export function zipfDraws(keys: number): Uint32Array {
  const sums = new Float64Array(keys);
  let sum = 0;
  for (let n = 0; n < keys; n++) {
    sum += 1 / (n + 1);
    sums[n] = sum;
  }
  return Uint32Array.from({ length: count }, () => firstAbove(sums, Math.random() * sum));
}

/** Returns each number of the draws in turn, and again from the first. */
export function inTurn(draws: Uint32Array): () => number {
  let n = 0;
  return () => draws[n++ & (count - 1)] as number;
}

/** The index of the first of rising numbers that is above a value. */
function firstAbove(sums: Float64Array, value: number): number {
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sums[middle] as number) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
