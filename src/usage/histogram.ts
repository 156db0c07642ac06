/**
 * Latency histograms that merge by adding. Bucket 0 holds up to 64 µs; each
 * further bucket reaches 1.2 times as far, the last one but one 7 days, for
 * streams. A bucket's geometric middle is at most the square root of 1.2 away from
 * whatever is in the bucket.
 */
const firstUs = 64;
const growth = 1.2;
const logGrowth = Math.log(growth);
/** Buckets at most; the last one is open to the right. */
export const bucketCount = 128;

/**
 * How far a percentile is from the exact one at most, relative to it: the square
 * root of 1.2, less 1, rounded up. Up to 64 µs, where it is said to be 32 µs, and
 * past 7 days it can be further away.
 */
export const percentileError = 0.096;

/** Those of most durations, which a logarithm would take longer to tell than all else that counting one takes. */
const shortBuckets = Uint8Array.from({ length: 8192 }, (_, durationUs) => computeBucket(durationUs));

/** The bucket of a duration in microseconds. */
export function bucketOf(durationUs: number): number {
  return shortBuckets[durationUs] ?? computeBucket(durationUs);
}

function computeBucket(durationUs: number): number {
  if (durationUs <= firstUs) return 0;
  return Math.min(bucketCount - 1, Math.ceil(Math.log(durationUs / firstUs) / logGrowth));
}

/** Counts durations of one bucket. Counts grow as far as needed: trailing zeros are left out. */
export function addToBucket(counts: number[], bucket: number, added: number): void {
  while (counts.length <= bucket) counts.push(0);
  counts[bucket] = (counts[bucket] as number) + added;
}

/**
 * The duration in microseconds that so many of 100 of what was counted did not
 * exceed, by the nearest rank; see {@link percentileError}. Undefined where nothing
 * was counted.
 */
export function percentile(counts: readonly number[], percent: number): number | undefined {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const rank = Math.max(1, Math.ceil((percent * total) / 100));
  let reached = 0;
  for (const [bucket, count] of counts.entries()) {
    reached += count;
    if (count > 0 && reached >= rank) return middleOf(bucket);
  }
  return undefined;
}

function middleOf(bucket: number): number {
  return bucket === 0 ? firstUs / 2 : firstUs * growth ** (bucket - 0.5);
}
