/** Places for streams: how many, how many of one user, and when one is free again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createPlaces } from "../../src/rpc/places.ts";

const { signal: never } = new AbortController();

function setUp() {
  const places = createPlaces({ most: 5, mostOfOneUser: 3, what: "do this" });
  const isFull = (userId: bigint) => {
    try {
      places.take(userId, never)();
      return false;
    } catch (error) {
      assert.equal(ConnectError.from(error).code, Code.ResourceExhausted);
      return true;
    }
  };
  return { places, isFull };
}

test("a user has no more places than its own, all users together no more than there are", () => {
  const { places, isFull } = setUp();
  for (let i = 0; i < 3; i++) places.take(1n, never);
  assert.deepEqual([isFull(1n), isFull(2n)], [true, false]);
  for (let i = 0; i < 2; i++) places.take(2n, never);
  assert.deepEqual([isFull(2n), isFull(3n)], [true, true]);
});

test("a place is free once, by its release or its signal, whichever is first", () => {
  const { places, isFull } = setUp();
  for (let i = 0; i < 2; i++) places.take(1n, never);
  const end = new AbortController();
  const release = places.take(1n, end.signal);
  assert.equal(isFull(1n), true);
  end.abort();
  release();
  assert.equal(isFull(1n), false);
  places.take(1n, never);
  assert.equal(isFull(1n), true);
  places.take(2n, AbortSignal.abort());
  for (let i = 0; i < 2; i++) places.take(2n, never);
  assert.equal(isFull(2n), true, "five are taken");
});
