/** What the console's charts show of values that are few. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { alone } from "../../src/console/app/parts/chart/alone.ts";

test("a value with none beside it is a point, for no line leads to it", () => {
  assert.deepEqual(alone([null, 3, null, 4, 5, null, 0]), [1, 6]);
  assert.deepEqual(alone([7]), [0]);
  assert.equal(alone([1, 2, 3, null]), null);
  assert.equal(alone([null, null]), null);
  assert.equal(alone([]), null);
});
