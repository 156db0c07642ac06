/** The soak's verdict: a leak is told, noise is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { judge, type Sample } from "./soak-verdict.ts";

const flat: Sample = {
  ...{ minute: 0, rssMiB: 200, heapMiB: 50, descriptors: 80, databaseConnections: 20 },
  ...{ p50Ms: 2, p99Ms: 20, othersShare: 0 },
};

/** An hour of samples, with noise that repeats. */
function hour(change: (minute: number) => Partial<Sample>): Sample[] {
  return Array.from({ length: 120 }, (_, i) => {
    const minute = i / 2;
    const noise = { rssMiB: 200 + (i % 7) * 3, heapMiB: 50 + (i % 5), descriptors: 80 + (i % 9) };
    return { ...flat, ...noise, minute, ...change(minute) };
  });
}

const notFlat = (samples: Sample[]) =>
  judge(samples)
    .filter((finding) => finding.flat === false)
    .map((finding) => finding.what);

test("an hour of noise, and of growth that ends within its first third, is flat", () => {
  assert.deepEqual(notFlat(hour(() => ({}))), []);
  const warming = hour((minute) => ({ heapMiB: 30 + Math.min(minute, 20), p99Ms: minute < 15 ? 900 : 20 }));
  assert.deepEqual(notFlat(warming), []);
});

test("one sample that is far off is no growth", () => {
  assert.deepEqual(notFlat(hour((minute) => (minute === 55 ? { rssMiB: 900, p99Ms: 4000 } : {}))), []);
});

for (const [what, change] of [
  ["heap", (minute) => ({ heapMiB: 50 + minute / 6 })],
  ["resident memory", (minute) => ({ rssMiB: 200 + minute })],
  ["descriptors", (minute) => ({ descriptors: Math.floor(80 + minute / 5) })],
  ["database connections", (minute) => ({ databaseConnections: Math.floor(20 + minute / 9) })],
  ["p50", (minute) => ({ p50Ms: minute > 39 ? 6 : 2 })],
  ["p99", (minute) => ({ p99Ms: minute > 39 ? 90 : 20 })],
] as readonly [string, (minute: number) => Partial<Sample>][]) {
  test(`growth of ${what} is told`, () => {
    assert.deepEqual(notFlat(hour(change)), [what]);
  });
}

test("latency is not judged where others take the processors, and memory is", () => {
  const samples = hour((minute) => ({ p50Ms: minute, p99Ms: minute * 9, othersShare: 0.5, heapMiB: minute }));
  assert.deepEqual(notFlat(samples), ["heap"]);
});
