import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { createBurst } from "../../src/usage/burst.ts";

/** Adds batches of `calls`, each `everyMs`, for so long: when they were found to be a burst, in milliseconds; undefined: never. */
function foundAtMs(calls: number, everyMs: number, forMs: number): number | undefined {
  let nowMs = 5000;
  const clock = mock.method(performance, "now", () => nowMs);
  try {
    const burst = createBurst(15_000);
    for (const startMs = nowMs; nowMs < startMs + forMs; nowMs += everyMs) {
      if (burst.add(calls)) return nowMs - startMs;
    }
    return undefined;
  } finally {
    clock.mock.restore();
  }
}

test("fewer calls than it takes are no burst, however they come", () => {
  assert.equal(foundAtMs(14, 1, 60_000), undefined);
  assert.equal(foundAtMs(700, 50, 60_000), undefined);
  assert.equal(foundAtMs(2_900, 1000, 60_000), undefined);
});

test("more of them are one after about a second", () => {
  const atMs = foundAtMs(1000, 50, 60_000);
  assert.ok(atMs !== undefined && atMs > 500 && atMs < 2000, `${atMs}`);
});

test("many more are one at once", () => {
  assert.equal(foundAtMs(4000, 20, 1000), 0);
  const atMs = foundAtMs(77, 1, 1000);
  assert.ok(atMs !== undefined && atMs < 60, `${atMs}`);
});

test("a burst is over about a second after its last call", () => {
  let nowMs = 5000;
  const clock = mock.method(performance, "now", () => nowMs);
  try {
    const burst = createBurst(15_000);
    for (let n = 0; n < 20; n++) assert.ok(burst.add(4000));
    nowMs += 1000;
    assert.ok(burst.add(1));
    nowMs += 1000;
    assert.ok(!burst.add(1));
  } finally {
    clock.mock.restore();
  }
});

test("where the bound is 0, each call is a burst", () => {
  const burst = createBurst(0);
  assert.ok(burst.add(1));
});
