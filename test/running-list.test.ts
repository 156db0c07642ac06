/** Lists of RPCs that wait: each tells of all in it whose time is up, whatever became of those beside them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { createRunningList, type RunningList, type Timed } from "../src/running-list.ts";

interface Item extends Timed {
  readonly id: number;
}

const createItems = (count: number): Item[] =>
  Array.from({ length: count }, (_, id) => ({
    id,
    sinceMs: 0,
    earlier: undefined,
    later: undefined,
    list: undefined,
  }));

function idsOf(list: RunningList<Item>): number[] {
  const ids: number[] = [];
  list.forEach(({ id }) => {
    ids.push(id);
  });
  return ids;
}

test("items that come, move to another list, and leave both from wherever they stand are where they should be", () => {
  const step = fc.record({ id: fc.nat(9), moves: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const items = createItems(10);
      const unanswered = createRunningList<Item>(
        () => 0,
        () => {},
      );
      const untaken = createRunningList<Item>(
        () => 0,
        () => {},
      );
      let expected: [number[], number[]] = [[], []];
      for (const [now, { id, moves }] of steps.entries()) {
        const item = items[id] as Item;
        const wasUnanswered = expected[0].includes(id);
        const wasThere = wasUnanswered || expected[1].includes(id);
        expected = [expected[0].filter((other) => other !== id), expected[1].filter((other) => other !== id)];
        if (!wasThere) {
          unanswered.add(item, now);
          expected[0].push(id);
        } else if (wasUnanswered && moves) {
          unanswered.remove(item);
          untaken.add(item, now);
          expected[1].push(id);
        } else {
          // As an RPC does that ends, wherever it stands.
          unanswered.remove(item);
          untaken.remove(item);
        }
        assert.deepEqual([idsOf(unanswered), idsOf(untaken)], expected);
      }
    }),
    { numRuns: 2000 },
  );
});

test("a list tells of each item that has been in it for its time, once, and of none that has left", async () => {
  const told: number[] = [];
  const list = createRunningList<Item>(
    () => 50,
    ({ id }) => told.push(id),
  );
  const items = createItems(10);
  for (const item of items) list.add(item, performance.now());
  for (const item of items) if (item.id % 3 === 0) list.remove(item);
  while (told.length < 6) await sleep(10);
  await sleep(100);
  assert.deepEqual(told, [1, 2, 4, 5, 7, 8]);
  assert.deepEqual(idsOf(list), []);
});

test("a time that becomes shorter applies to what comes from then on", async () => {
  const told: number[] = [];
  let timeoutMs = 60_000;
  const list = createRunningList<Item>(
    () => timeoutMs,
    ({ id }) => told.push(id),
  );
  const [before, after] = createItems(2) as [Item, Item];
  list.add(before, performance.now());
  timeoutMs = 10;
  list.add(after, performance.now());
  for (let tries = 0; told.length < 2 && tries < 200; tries++) await sleep(10);
  assert.deepEqual(told, [0, 1]);
});
