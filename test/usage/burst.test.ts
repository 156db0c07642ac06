/** When calls are a burst, by a clock that is set by hand. */
import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { createBurst } from "../../src/usage/burst.ts";

let nowMs = 0;
mock.method(performance, "now", () => nowMs);
beforeEach(() => {
  nowMs = 5000;
});

/**
 * Adds batches of so many calls, each of which ended over `everyMs`, one after another for `forMs`. When they
 * were found to be a burst, in milliseconds; undefined: never.
 */
function foundAtMs(calls: number, everyMs: number, forMs: number): number | undefined {
  const burst = createBurst(15_000);
  for (let atMs = everyMs; atMs <= forMs; atMs += everyMs) {
    nowMs += everyMs;
    if (burst.add(calls, everyMs)) return atMs;
  }
  return undefined;
}

test("fewer calls than it takes are no burst, however they come", () => {
  assert.equal(foundAtMs(14, 1, 60_000), undefined);
  assert.equal(foundAtMs(700, 50, 60_000), undefined);
  assert.equal(foundAtMs(1480, 100, 60_000), undefined);
  assert.equal(foundAtMs(10_000, 1000, 60_000), undefined);
});

test("more of them are one after about a second", () => {
  const atMs = foundAtMs(850, 50, 60_000);
  assert.ok(atMs !== undefined && atMs > 1500 && atMs < 3000, `${atMs}`);
});

test("many more are one at once", () => {
  assert.equal(foundAtMs(4000, 20, 1000), 20);
  // Strict: few at a time.
  const atMs = foundAtMs(77, 1, 1000);
  assert.ok(atMs !== undefined && atMs < 40, `${atMs}`);
});

test("calls that waited for the database are one, though they ended long ago", () => {
  const burst = createBurst(15_000);
  nowMs += 60_000;
  assert.ok(!burst.add(4000, 60_000));
  nowMs += 20;
  assert.ok(burst.add(4000, 60_000));
});

test("a burst is over about a second after its last call", () => {
  const burst = createBurst(15_000);
  for (let n = 0; n < 20; n++) assert.ok(burst.add(4000, 20));
  nowMs += 1000;
  assert.ok(burst.add(1, 0));
  nowMs += 1000;
  assert.ok(!burst.add(1, 0));
});

test("where the bound is 0, each call is a burst", () => {
  const burst = createBurst(0);
  assert.ok(burst.add(1, 0));
});
