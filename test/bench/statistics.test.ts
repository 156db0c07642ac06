/** The arithmetic of the bench. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createResults } from "./results.ts";
import { median, medianRatio, quantile, spread } from "./statistics.ts";
import { inTurn, uniformDraws, zipfDraws } from "./subjects/draws.ts";

test("a median is the middle value, or the mean of the two in the middle", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([10, 1, 9, 2]), 5.5);
  assert.equal(median([7]), 7);
  assert.equal(median([]), Number.NaN);
});

test("a median sorts numbers as numbers and leaves its series as it is", () => {
  const series = [100, 20, 3];
  assert.equal(median(series), 20);
  assert.deepEqual(series, [100, 20, 3]);
});

test("a quantile is one of the values, up to the largest", () => {
  const hundred = Float64Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.equal(quantile(hundred, 0.99), 100);
  assert.equal(quantile(hundred, 0.5), 51);
  assert.equal(quantile(hundred, 0), 1);
  assert.equal(quantile([4], 0.99), 4);
  assert.equal(quantile([], 0.99), Number.NaN);
});

test("a ratio is that of the rounds, not of the medians: what slows a round down slows both", () => {
  const a = [100, 10, 200];
  const b = [50, 5, 20];
  assert.equal(medianRatio(a, b), 2);
  assert.equal(medianRatio([1, 2, 3], [1, 0, Number.NaN]), 1);
  assert.equal(medianRatio([1, 2], []), Number.NaN);
});

test("the spread is that of the quartiles, as a share of the median", () => {
  assert.equal(spread([10, 10, 10, 10]), 0);
  assert.equal(spread([8, 9, 10, 11, 12]), 0.2);
});

test("results keep the rounds apart: one that a subject was not measured in is in no ratio", () => {
  const results = createResults();
  const add = (subject: string, round: number, perS: number) =>
    results.add({ section: "grpc", subject, variant: "10 x 10", round, values: { perS } });
  for (const [round, perS] of [
    [1, 100],
    [2, 40],
    [3, 300],
  ] as const) {
    add("a", round, perS);
  }
  add("b", 1, 50);
  add("b", 3, 100);
  const which = (subject: string) => ({ section: "grpc", subject, variant: "10 x 10", value: "perS" });
  assert.deepEqual(results.series(which("b")), [50, Number.NaN, 100]);
  assert.equal(results.median(which("b")), 75);
  assert.equal(results.ratio(which("a"), which("b")), 2.5);
  assert.equal(results.ratio(which("a"), which("c")), Number.NaN);
});

test("a value that is measured apart does not take the place of the others of its round", () => {
  const results = createResults();
  const which = { section: "verdicts", subject: "latchkey", variant: "1,000 keys" };
  results.add({ ...which, round: 1, values: { bytesPerKey: 400 } });
  results.add({ ...which, round: 1, values: { perS: 5 } });
  assert.equal(results.median({ ...which, value: "bytesPerKey" }), 400);
  assert.equal(results.median({ ...which, value: "perS" }), 5);
});

test("keys are drawn alike, or the n-th in proportion to 1/n, and all of them are there", () => {
  const keys = 100;
  const shares = (draws: Uint32Array) => {
    const counts = new Array<number>(keys).fill(0);
    for (const n of draws) counts[n]!++;
    return counts.map((count) => count / draws.length);
  };
  const near = (share: number | undefined, expected: number) =>
    assert.ok(Math.abs((share ?? 0) / expected - 1) < 0.1, `${share} is not near ${expected}`);

  const uniform = shares(uniformDraws(keys));
  for (const share of uniform) near(share, 1 / keys);
  // The sum of 1/n to 100.
  const zipf = shares(zipfDraws(keys));
  for (const n of [1, 2, 10, 100]) near(zipf[n - 1], 1 / n / 5.18738);
});

test("draws come in their order, and again", () => {
  const draws = uniformDraws(10);
  const next = inTurn(draws);
  const first = Array.from({ length: draws.length }, next);
  assert.deepEqual(first, [...draws]);
  assert.equal(next(), draws[0]);
});
