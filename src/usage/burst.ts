/** Tells bursts, in which rows of the log are packed, from what is written as it comes. */

/** Of either, so many times as many calls a second are a burst. */
const windows = [
  { ms: 1000, times: 1 },
  // A burst would else begin with a second's worth of rows, which takes the database longer than many seconds of packs.
  { ms: 100, times: 1.5 },
];

/** A burst is while more calls than `above` end a second, for about a second, or half as many again for about a tenth. */
export function createBurst(above: number): { add(calls: number): boolean } {
  /** Calls in each: what is older counts less and less. */
  const counted = windows.map(() => 0);
  let atMs = performance.now();
  return {
    /** Adds those of a batch: whether it is of a burst. */
    add(calls) {
      const elapsedMs = performance.now() - atMs;
      atMs += elapsedMs;
      for (const [n, { ms }] of windows.entries()) {
        counted[n] = (counted[n] as number) * Math.exp(-elapsedMs / ms) + calls;
      }
      return windows.some(({ ms, times }, n) => (counted[n] as number) > (above * times * ms) / 1000);
    },
  };
}
