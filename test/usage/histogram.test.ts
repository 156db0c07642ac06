/** Percentiles of merged histograms against the exact ones. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  addToBucket,
  bucketCount,
  bucketOf,
  percentile,
  percentileError,
} from "../../src/usage/histogram.ts";

const dayUs = 86_400_000_000;

/** By the nearest rank: the smallest that so many of 100 do not exceed. */
function exact(durations: readonly number[], percent: number): number {
  const sorted = [...durations].sort((a, b) => a - b);
  return sorted[Math.max(1, Math.ceil((percent * sorted.length) / 100)) - 1] ?? 0;
}

function assertHolds(durations: readonly number[]): void {
  const counts: number[] = [];
  for (const duration of durations) addToBucket(counts, bucketOf(duration), 1);
  for (const percent of [0, 1, 50, 95, 99, 99.9, 100]) {
    const truth = exact(durations, percent);
    const told = percentile(counts, percent) ?? Number.NaN;
    const error = Math.abs(told - truth);
    if (truth <= 64) assert.ok(told < 100 && error < 100, `p${percent}: ${told} for ${truth}`);
    else assert.ok(error <= percentileError * truth, `p${percent}: ${told} for ${truth}`);
  }
}

const anyDuration = fc.oneof(
  fc.integer({ min: 0, max: 200 }),
  fc.integer({ min: 0, max: 7 * dayUs }),
  // Even among magnitudes.
  fc
    .double({ min: 0, max: Math.log(7 * dayUs), noNaN: true })
    .map((exponent) => Math.round(Math.exp(exponent))),
  // At the edges of buckets, where the error is greatest.
  fc
    .tuple(fc.integer({ min: 0, max: 125 }), fc.integer({ min: -1, max: 1 }))
    .map(([bucket, by]) => Math.round(64 * 1.2 ** bucket) + by),
);

test("a percentile is within its error of the exact one, whatever the durations", () => {
  fc.assert(fc.property(fc.array(anyDuration, { minLength: 1, maxLength: 300 }), assertHolds), {
    numRuns: 1000,
  });
});

for (const [what, durations] of [
  ["one", [1234]],
  ["all alike", Array.from({ length: 999 }, () => 5000)],
  ["two far apart", [...Array(95).fill(100), ...Array(5).fill(6 * dayUs)]],
  ["one more than the median below a gap", [...Array(51).fill(70), ...Array(50).fill(60_000_000)]],
  ["evenly spread", Array.from({ length: 10_000 }, (_, i) => i * 37)],
  ["with a long tail", Array.from({ length: 10_000 }, (_, i) => Math.round(1000 / (1 - i / 10_000) ** 2))],
] as const) {
  test(`percentiles of durations ${what} are within their error`, () => assertHolds(durations));
}

test("the error that is stated is no wider than it must be", () => {
  // The upper end of a bucket, which its middle is the furthest from.
  const worst = Math.ceil(64 * 1.2 ** 60) - 1;
  const told = percentile(count([worst + 1]), 50) ?? 0;
  assert.ok(Math.abs(told - worst - 1) / worst > percentileError - 0.002);
});

test("merged histograms tell what one of all durations tells", () => {
  fc.assert(
    fc.property(fc.array(anyDuration), fc.array(anyDuration), (some, others) => {
      const [a, b] = [count(some), count(others)];
      const merged = Array.from(
        { length: Math.max(a.length, b.length) },
        (_, i) => (a[i] ?? 0) + (b[i] ?? 0),
      );
      assert.deepEqual(merged, count([...some, ...others]));
    }),
  );
});

test("there is no percentile of nothing, and none beyond the last bucket", () => {
  assert.equal(percentile([], 50), undefined);
  assert.equal(bucketOf(Number.MAX_SAFE_INTEGER), bucketCount - 1);
  assert.equal(bucketOf(0), 0);
  assert.equal(count([Number.MAX_SAFE_INTEGER]).length, bucketCount);
});

function count(durations: readonly number[]): number[] {
  const counts: number[] = [];
  for (const duration of durations) addToBucket(counts, bucketOf(duration), 1);
  return counts;
}
