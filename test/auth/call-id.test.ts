/** Ids of calls: UUIDs of version 7, in the order in which they were made. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createCallId } from "../../src/auth/call-id.ts";

const version7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const msOf = (id: string) => Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);

test("an id is a UUID of version 7 of its time", () => {
  for (const ms of [1_794_000_000_000, 1_794_000_000_001, 1, 2 ** 47]) {
    const id = createCallId(ms);
    assert.match(id, version7);
    assert.equal(msOf(id), ms);
  }
});

test("ids of one millisecond are in the order in which they were made", () => {
  for (let ms = 1_794_000_000_010; ms < 1_794_000_000_060; ms++) {
    const ids = Array.from({ length: 2048 }, () => createCallId(ms));
    assert.deepEqual(ids.toSorted(), ids);
    assert.ok(ids.every((id) => version7.test(id) && msOf(id) === ms));
  }
});

test("more ids of one millisecond than can be counted differ all the same", () => {
  const ids = Array.from({ length: 10_000 }, () => createCallId(1_794_000_001_000));
  assert.equal(new Set(ids).size, ids.length);
});
