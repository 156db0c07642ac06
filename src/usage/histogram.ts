/**
 * Latency histograms that merge by adding. Bucket 0 holds up to 64 µs; each
 * further bucket reaches 1.2 times as far, the last one beyond a minute. Taking a
 * bucket's geometric middle errs by at most the square root of 1.2: 9.6 %.
 */
const firstUs = 64;
const growth = 1.2;
const logGrowth = Math.log(growth);
/** Buckets at most; the last one is open to the right. */
export const bucketCount = 78;

/** The bucket of a duration in microseconds. */
export function bucketOf(durationUs: number): number {
  if (durationUs <= firstUs) return 0;
  return Math.min(bucketCount - 1, Math.ceil(Math.log(durationUs / firstUs) / logGrowth));
}

/** Counts one duration. Counts grow as far as needed: trailing zeros are left out. */
export function addDuration(counts: number[], durationUs: number): void {
  const bucket = bucketOf(durationUs);
  while (counts.length <= bucket) counts.push(0);
  counts[bucket] = (counts[bucket] ?? 0) + 1;
}
