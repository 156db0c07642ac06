import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import type { Http2Stream } from "../../src/http2/stream.ts";
import { StreamTable } from "../../src/http2/stream-table.ts";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as (options: { type: "major" | "minor" }) => void;

/** What the table knows of a stream is its id. */
const streamOf = (id: number) => ({ id, request: new Array(100).fill(id) }) as unknown as Http2Stream;

describe("StreamTable", () => {
  it("holds what a Map would hold, whatever ids a client chooses", () => {
    // Few and close ones, powers of two that a plain mask would have meet, and any.
    const id = fc.oneof(
      fc.integer({ min: 0, max: 40 }).map((n) => 2 * n + 1),
      fc.integer({ min: 0, max: 400 }).map((n) => n * 2 ** 20 + 1),
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
    );
    const step = fc.record({ isAdded: fc.boolean(), id });
    // By its own measure, fast-check would make lists of ten.
    const steps = fc.array(step, { minLength: 1, maxLength: 1000, size: "max" });
    const property = fc.property(steps, (steps) => {
      const table = new StreamTable();
      const model = new Map<number, Http2Stream>();
      for (const { isAdded, id } of steps) {
        if (isAdded && !model.has(id)) {
          const stream = streamOf(id);
          table.add(stream);
          model.set(id, stream);
        } else if (!isAdded) {
          table.delete(id);
          model.delete(id);
        }
        assert.equal(table.size, model.size);
        assert.equal(table.get(id), model.get(id));
      }
      const inOrder = [...model.values()].sort((a, b) => a.id - b.id);
      assert.deepEqual(table.list(), inOrder);
      for (const stream of inOrder) assert.equal(table.get(stream.id), stream);
      for (const { id } of inOrder) table.delete(id);
      assert.deepEqual(table.list(), []);
    });
    fc.assert(property, { numRuns: 200 });
  });

  it("keeps those that are left of thousands", () => {
    const table = new StreamTable();
    const streams = Array.from({ length: 5000 }, (_, n) => streamOf(2 * n + 1));
    for (const stream of streams) table.add(stream);
    const left = streams.filter((_, n) => n % 1000 === 7);
    for (const stream of streams) if (!left.includes(stream)) table.delete(stream.id);
    assert.equal(table.size, left.length);
    assert.deepEqual(table.list(), left);
    for (const stream of left) assert.equal(table.get(stream.id), stream);
  });

  it("leaves streams that have ended to minor collections, however old it is", () => {
    const table = new StreamTable();
    const perTurn = 10;
    let id = 1;
    const serve = (turns: number) => {
      for (let turn = 0; turn < turns; turn++) {
        const open = Array.from({ length: perTurn }, (_, i) => streamOf(id + 2 * i));
        id += 2 * perTurn;
        for (const stream of open) table.add(stream);
        for (const { id } of open) table.delete(id);
      }
    };
    serve(200);
    table.add(streamOf(1));
    gc({ type: "major" });
    table.delete(1);
    const before = getHeapStatistics().used_heap_size;
    // 16 MB of them.
    serve(2000);
    gc({ type: "minor" });
    const held = getHeapStatistics().used_heap_size - before;
    assert.ok(held < 2_000_000, `${held} bytes of streams that have ended are held`);
  });
});
