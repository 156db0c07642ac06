/** Ids of calls: UUIDs of version 7, in the order in which they were made. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { counterOf, idSeriesAt } from "../../src/auth/call-id.ts";

const version7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const msOf = (id: string) => Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);
const createId = (ms: number) => idSeriesAt(ms).next();

test("an id is a UUID of version 7 of its time", () => {
  for (const ms of [1_794_000_000_000, 1_794_000_000_001, 1, 2 ** 47]) {
    const id = createId(ms);
    assert.match(id, version7);
    assert.equal(msOf(id), ms);
  }
});

test("ids of one millisecond are in the order in which they were made", () => {
  for (let ms = 1_794_000_000_010; ms < 1_794_000_000_060; ms++) {
    const ids = Array.from({ length: 2048 }, () => createId(ms));
    assert.deepEqual(ids.toSorted(), ids);
    assert.ok(ids.every((id) => version7.test(id) && msOf(id) === ms));
  }
});

test("more ids of one millisecond than can be counted differ all the same", () => {
  const ids = Array.from({ length: 10_000 }, () => createId(1_794_000_001_000));
  assert.ok(ids.every((id) => version7.test(id)));
  assert.equal(new Set(ids).size, ids.length);
});

test("what is random of an id is so in each millisecond anew, in every digit", () => {
  const ids = Array.from({ length: 2000 }, (_, n) => createId(1_794_000_002_000 + n));
  const free = [...Array(36).keys()].filter((at) => at > 14 && !["-"].includes(ids[0]?.[at] ?? ""));
  for (const at of free) {
    const seen = new Set(ids.map((id) => id[at])).size;
    // A counter begins in the lower half; two bits of a digit say that it is a UUID.
    assert.equal(seen, at === 15 ? 8 : at === 19 ? 4 : 16, `digit ${at}`);
  }
});

test("an id is put together again from its series and counter", () => {
  for (let n = 0; n < 5000; n++) {
    const series = idSeriesAt(1_794_000_005_000 + n / 100);
    const id = series.next();
    const counter = counterOf(id);
    assert.equal(series.at(counter), id);
    assert.equal(series.head + counter.toString(16) + series.tail, id);
  }
});
