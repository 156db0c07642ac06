/** When packs are laid out: over a store that is made up. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import type { PackStore } from "../../src/usage/pack-store.ts";
import { createUnpacking, type UnpackingOptions } from "../../src/usage/unpack.ts";
import { until } from "../harness/until.ts";

const burst = { oldestMs: 5000, newestMs: 0 };
const over = { oldestMs: 5000, newestMs: 2000 };

function setUp(t: TestContext, options: Partial<UnpackingOptions> = {}) {
  const world = {
    packs: [] as number[],
    age: over,
    failure: undefined as Error | undefined,
    unpackMs: 0,
    /** Rows that Postgres would refuse. */
    bad: 0,
    looks: 0,
    /** What happens after what waits was looked up, and before that is told. */
    onLook: undefined as (() => void) | undefined,
    errors: [] as string[],
  };
  const store: PackStore = {
    async waiting() {
      world.looks++;
      const found = { rows: world.packs.reduce((sum, rows) => sum + rows, 0), ...world.age };
      world.onLook?.();
      await turn();
      return found;
    },
    async unpackNext() {
      await sleep(world.unpackMs);
      if (world.failure !== undefined) throw world.failure;
      const rows = world.packs.shift();
      if (rows === undefined) return undefined;
      const droppedRows = Math.min(rows, world.bad);
      world.bad -= droppedRows;
      return { rows: rows - droppedRows, droppedRows };
    },
  };
  const unpacking = createUnpacking({
    store,
    onError: (message) => world.errors.push(message),
    ...options,
  });
  t.after(() => unpacking.close());
  const laidOut = () =>
    until(
      () => world.packs.length,
      (left) => left === 0,
    );
  return { world, unpacking, laidOut };
}

test("packs that are there at the start, as others have ended, are laid out", async (t) => {
  const { world, laidOut } = setUp(t);
  world.packs.push(10, 20, 30);
  await laidOut();
});

test("what is packed is laid out once the burst is over, and not before", async (t) => {
  const { world, unpacking, laidOut } = setUp(t);
  world.age = burst;
  world.packs.push(10, 20);
  unpacking.packed(30);
  const { looks } = world;
  await until(
    () => world.looks,
    (now) => now > looks + 2,
  );
  assert.equal(world.packs.length, 2);
  world.age = over;
  await laidOut();
  await until(
    () => unpacking.waitingRows,
    (rows) => rows === 0,
  );
});

test("a pack that comes while it is looked for is not left for the next look at what others have left", async (t) => {
  const { world, unpacking, laidOut } = setUp(t);
  world.onLook = () => {
    world.onLook = undefined;
    world.packs.push(10);
    unpacking.packed(10);
  };
  await laidOut();
});

test("who looks at the log is told that rows are to come, and they come", async (t) => {
  const { world, unpacking, laidOut } = setUp(t);
  assert.equal(await unpacking.look(), false);
  world.age = burst;
  world.packs.push(10);
  assert.equal(await unpacking.look(), true);
  await laidOut();
  assert.equal(await unpacking.look(), false);
});

// By the second turn a share of the time that is next to nothing would have been a pause of minutes.
for (const oldestMs of [10_001, 40_000, 300_000]) {
  test(`a burst that does not end is laid out while it lasts: the oldest pack is of ${oldestMs} ms ago`, async (t) => {
    const { world, laidOut } = setUp(t);
    world.age = { oldestMs, newestMs: 0 };
    world.unpackMs = 50;
    world.packs.push(...Array<number>(8).fill(10));
    await laidOut();
  });
}

test("while too many rows wait, none are packed", async (t) => {
  const { world, unpacking, laidOut } = setUp(t, { maxRows: 100 });
  world.age = burst;
  assert.equal(unpacking.mayPack(), true);
  world.packs.push(60, 60);
  for (const rows of world.packs) unpacking.packed(rows);
  assert.equal(unpacking.mayPack(), false);
  world.age = over;
  await laidOut();
  await until(() => unpacking.mayPack(), Boolean);
});

test("a failure is told once, and tried again", async (t) => {
  const { world, unpacking, laidOut } = setUp(t);
  world.failure = new Error("away");
  await unpacking.look();
  world.packs.push(10);
  await until(
    () => world.looks,
    (looks) => looks >= 3,
  );
  assert.deepEqual(world.errors, ["packed request log rows could not be laid out; it is tried again"]);
  world.failure = undefined;
  await laidOut();
});

test("rows that Postgres refuses are told and counted", async (t) => {
  const { world, unpacking, laidOut } = setUp(t);
  world.bad = 1;
  world.packs.push(1, 10);
  await laidOut();
  assert.equal(unpacking.droppedRows, 1);
  assert.match(world.errors.join(), /a request log row was dropped/);
});

test("nothing is begun after it is closed", async (t) => {
  const { world, unpacking } = setUp(t);
  await unpacking.close();
  world.packs.push(10);
  unpacking.packed(10);
  await sleep(1500);
  assert.equal(world.packs.length, 1);
  assert.equal(unpacking.mayPack(), false);
});
