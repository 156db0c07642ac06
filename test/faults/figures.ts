/** What was measured, in one line. */

/** E.g. "960 times: median 3.1 ms, p99 20.4 ms, max 31.0 ms". */
export function figures(timesMs: readonly number[]): string {
  if (timesMs.length === 0) return "never";
  const sorted = [...timesMs].sort((a, b) => a - b);
  const at = (share: number) => (sorted[Math.ceil(share * sorted.length) - 1] ?? 0).toFixed(1);
  return `${sorted.length} times: median ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms`;
}

/** A time of performance.now(), in milliseconds since the epoch and parts of them: as Postgres tells it. */
export function epochMs(monotonicMs: number): number {
  return performance.timeOrigin + monotonicMs;
}
