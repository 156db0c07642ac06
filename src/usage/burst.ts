/** Tells bursts, in which rows of the log are packed, from what is written as it comes. */

/** More than so many times as many calls a second, for about so long, are a burst. */
const windows = [
  { ms: 1000, times: 1 },
  // A burst would else begin with a second's worth of rows, which takes the database longer than many seconds of packs.
  { ms: 100, times: 1.2 },
];

/** A burst is while more calls than `above` end a second, for about a second, or a fifth more for about a tenth. */
export function createBurst(above: number): { add(calls: number, overMs: number): boolean } {
  /** Calls in each: what is older counts less and less. */
  const counted = windows.map(() => 0);
  let atMs = performance.now();
  return {
    /** Adds those of a batch, the first of which ended so long ago: whether it is of a burst. */
    add(calls, overMs) {
      const elapsedMs = performance.now() - atMs;
      atMs += elapsedMs;
      // What waited while others were written comes as fast as it is written.
      const spreadMs = Math.max(0, Math.min(overMs, elapsedMs));
      for (const [n, { ms }] of windows.entries()) {
        counted[n] = (counted[n] as number) * Math.exp(-elapsedMs / ms) + calls * left(spreadMs / ms);
      }
      return windows.some(({ ms, times }, n) => (counted[n] as number) > (above * times * ms) / 1000);
    },
  };
}

/** Of calls that came evenly over so many windows until now, what still counts: 1 of those that came just now. */
function left(spread: number): number {
  return spread === 0 ? 1 : -Math.expm1(-spread) / spread;
}
