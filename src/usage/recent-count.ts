/** How many there were lately. */

const latelyMs = 1000;

/** Counts what there was in about a second: what is older counts less and less. */
export function createRecentCount(): { add(count: number): number } {
  let counted = 0;
  let atMs = performance.now();
  return {
    add(count) {
      const nowMs = performance.now();
      counted = counted * Math.exp((atMs - nowMs) / latelyMs) + count;
      atMs = nowMs;
      return counted;
    },
  };
}
