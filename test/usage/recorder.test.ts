/** The recorder when its database fails: nothing that was counted is lost, nothing is counted twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import type { EndedCall } from "../../src/auth/call.ts";
import { methodName } from "../../src/auth/method-name.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { createRecorder, type RecorderOptions } from "../../src/usage/recorder.ts";
import type { UsageBatch } from "../../src/usage/store.ts";
import { until } from "../harness/until.ts";
import { callOf, callsOf } from "./batches.ts";

const call = (apiKeyId = "01890a5d-ac96-774b-bcce-b302099a8057") => callOf(apiKeyId);

/** A recorder over a database that the test turns off and on. */
function setUp(options: Partial<RecorderOptions> = {}) {
  const world = {
    down: false,
    error: new Error("connection refused"),
    batches: [] as UsageBatch[],
    tries: 0,
    errors: [] as string[],
  };
  const recorder = createRecorder({
    async write(batch) {
      world.tries++;
      if (world.down) throw world.error;
      world.batches.push(batch);
    },
    durability: "batched",
    intervalMs: 10,
    onError: (message) => world.errors.push(message),
    ...options,
  });
  const written = () => ({
    rows: world.batches.reduce((sum, batch) => sum + batch.calls.rows, 0),
    counted: world.batches.reduce(
      (sum, { totals }) => sum + [...totals.keys.values()].reduce((n, { requests }) => n + requests, 0),
      0,
    ),
  });
  return { world, recorder, written };
}

test("batched: a call is taken without a promise and committed in a group", async () => {
  const { world, recorder, written } = setUp();
  for (let i = 0; i < 50; i++) assert.equal(recorder.record(call()), undefined);
  await until(written, ({ rows }) => rows === 50);
  assert.equal(world.batches.length, 1);
  assert.deepEqual(written(), { rows: 50, counted: 50 });
});

test("strict: a call's promise resolves only once it is committed", async () => {
  const gate = Promise.withResolvers<void>();
  let committed = false;
  const { recorder } = setUp({
    durability: "strict",
    async write() {
      await gate.promise;
      committed = true;
    },
  });
  const promise = recorder.record(call());
  assert.ok(promise);
  await turn();
  gate.resolve();
  await promise;
  assert.equal(committed, true);
});

test("strict: who is answered and calls again shares the next commit with those who waited", async () => {
  const batches: string[][] = [];
  const { recorder } = setUp({
    durability: "strict",
    async write(batch) {
      batches.push(callsOf(batch).map(({ id }) => id));
      await sleep(30);
    },
  });
  const [first, waits, again, alone] = [call(), call(), call(), call()];
  const answered = recorder.record(first);
  await until(() => batches.length, Boolean);
  const waited = recorder.record(waits);
  await answered;
  // As long as an answer takes to its caller and the next call back, in turns of the event loop.
  for (let n = 0; n < 10; n++) await turn();
  await Promise.all([waited, recorder.record(again)]);
  // Of the two that were answered only one comes again: it is not kept waiting for the other.
  await recorder.record(alone);
  assert.deepEqual(batches, [[first.id], [waits.id, again.id], [alone.id]]);
});

test("batched: calls of an outage are kept and written when the database is back", async () => {
  const { world, recorder, written } = setUp();
  world.down = true;
  for (let i = 0; i < 30; i++) recorder.record(call());
  await until(
    () => world.tries,
    (tries) => tries >= 2,
  );
  for (let i = 0; i < 30; i++) recorder.record(call());
  world.down = false;
  await until(written, ({ rows }) => rows === 60);
  assert.deepEqual(written(), { rows: 60, counted: 60 });
  assert.equal(recorder.droppedRows, 0);
});

test("a batch that failed is tried again with its number and the same calls", async () => {
  const seen: UsageBatch[] = [];
  const { recorder } = setUp({
    async write(batch) {
      seen.push(batch);
      if (seen.length < 3) throw new Error("the answer was lost");
    },
  });
  recorder.record(call());
  await until(
    () => seen.length,
    (n) => n === 3,
  );
  assert.deepEqual(new Set(seen.map(({ number }) => number)), new Set([1]));
  assert.deepEqual(new Set(seen.map((batch) => callsOf(batch)[0]?.id)).size, 1);
});

test("rows beyond the bound are dropped oldest first and told, but every call is counted", async () => {
  const { world, recorder, written } = setUp({ maxPendingRows: 100, maxBatchRows: 10 });
  world.down = true;
  const calls = Array.from({ length: 1000 }, () => call());
  for (const one of calls) recorder.record(one);
  await until(
    () => world.tries,
    (tries) => tries >= 1,
  );
  assert.ok(recorder.pendingCalls <= 110, `${recorder.pendingCalls} kept`);
  world.down = false;
  await until(written, ({ counted }) => counted === 1000);
  const { rows } = written();
  assert.equal(rows + recorder.droppedRows, 1000);
  assert.ok(recorder.droppedRows >= 880);
  const kept = new Set(world.batches.flatMap((batch) => callsOf(batch).map(({ id }) => id)));
  assert.ok(kept.has(calls.at(-1)?.id ?? ""), "the newest is kept");
  await until(
    () => world.errors.join(),
    (text) => text.includes("rows were dropped; their calls are counted"),
  );
});

test("counters of an outage need one number a key, not one a call", async () => {
  const { world, recorder, written } = setUp({ maxPendingRows: 10, maxBatchRows: 10 });
  world.down = true;
  const calls = ["a", "b", "c"].map((id) => call(id));
  for (let i = 0; i < 30_000; i++) recorder.record(calls[i % 3] as EndedCall);
  assert.ok(recorder.pendingCalls <= 20);
  world.down = false;
  await until(written, ({ counted }) => counted === 30_000);
});

test("strict: a call that cannot be committed rejects, is no longer accepted, and its row says unavailable", async () => {
  const { world, recorder, written } = setUp({ durability: "strict" });
  world.down = true;
  await assert.rejects(recorder.record(call()) as Promise<void>, /connection refused/);
  assert.equal(recorder.accepts(methodName(UserService.method.getUser)), false);
  world.down = false;
  await until(written, ({ rows }) => rows === 1);
  assert.equal(world.batches[0]?.calls.at(0).code, Code.Unavailable);
  assert.equal(world.batches[0]?.number, 1);
  await until(() => recorder.accepts(methodName(UserService.method.getUser)), Boolean);
  await recorder.record(call());
  assert.deepEqual(written(), { rows: 2, counted: 2 });
});

test("strict: while the database is away, every call rejects at once, those too that were under way as it went", async () => {
  const { world, recorder, written } = setUp({ durability: "strict" });
  world.down = true;
  const calls = Array.from({ length: 10 }, async (_, i) => {
    if (i >= 5) await until(() => world.tries, Boolean);
    await recorder.record(call());
  });
  const settled = await Promise.allSettled(calls);
  assert.ok(settled.every(({ status }) => status === "rejected"));
  world.down = false;
  await until(written, ({ rows }) => rows === 10);
  const codes = world.batches.flatMap((batch) => callsOf(batch).map(({ code }) => code));
  assert.deepEqual(new Set(codes), new Set([Code.Unavailable]));
});

test("a row that Postgres refuses once, as while its partition is attached, is written", async () => {
  const refused = Object.assign(new Error("violates partition constraint"), { code: "23514" });
  let refusals = 0;
  const { world, recorder, written } = setUp({
    async write(batch) {
      if (refusals++ < 2) throw refused;
      world.batches.push(batch);
    },
  });
  recorder.record(call());
  await until(written, ({ counted }) => counted === 1);
  assert.deepEqual(written(), { rows: 1, counted: 1 });
  assert.equal(recorder.droppedRows, 0);
});

test("a row that Postgres refuses for what it holds costs no other row, and its call is counted", async () => {
  const refused = Object.assign(new Error("invalid byte sequence"), { code: "22021" });
  const { world, recorder, written } = setUp({
    async write(batch) {
      if (callsOf(batch).some(({ userAgent }) => userAgent === "poison")) throw refused;
      world.batches.push(batch);
    },
  });
  for (let i = 0; i < 100; i++) recorder.record({ ...call(), userAgent: i === 37 ? "poison" : "" });
  await until(written, ({ counted }) => counted === 100);
  assert.deepEqual(written(), { rows: 99, counted: 100 });
  assert.equal(recorder.droppedRows, 1);
  const numbers = world.batches.map(({ number }) => number);
  assert.equal(new Set(numbers).size, numbers.length, "each batch has its own number");
});

test("the call that has waited longest is known, while it waits and while it is written", async () => {
  const { world, recorder } = setUp();
  assert.equal(recorder.oldestPendingMs, undefined);
  world.down = true;
  const first = call();
  const endedMs = first.startedMs + first.durationUs / 1000;
  recorder.record(first);
  assert.equal(recorder.oldestPendingMs, endedMs);
  await until(
    () => world.tries,
    (tries) => tries > 0,
  );
  recorder.record({ ...call(), startedMs: first.startedMs + 1000 });
  assert.equal(recorder.oldestPendingMs, endedMs);
  world.down = false;
  await until(
    () => recorder.oldestPendingMs,
    (oldest) => oldest === undefined,
  );
  assert.equal(recorder.pendingCalls, 0);
});

test("close commits what is there", async () => {
  const { recorder, written } = setUp({ intervalMs: 60_000 });
  for (let i = 0; i < 5000; i++) recorder.record(call());
  await recorder.close(5000);
  assert.deepEqual(written(), { rows: 5000, counted: 5000 });
});

test("close says how many calls it could not write, and ends", async () => {
  const { world, recorder } = setUp();
  world.down = true;
  recorder.record(call());
  await assert.rejects(recorder.close(50), /1 calls could not be written/);
});

test("batches are packed while many calls end, and while there is room for packs", async () => {
  let room = true;
  const told: number[] = [];
  const packs = { mayPack: () => room, packed: (rows: number) => told.push(rows) };
  const { world, recorder, written } = setUp({ packs, packAbove: 1000, maxBatchRows: 500 });
  for (let i = 0; i < 100; i++) recorder.record(call());
  await until(written, ({ rows }) => rows === 100);
  for (let i = 0; i < 2000; i++) recorder.record(call());
  await until(written, ({ rows }) => rows === 2100);
  room = false;
  for (let i = 0; i < 500; i++) recorder.record(call());
  await until(written, ({ counted }) => counted === 2600);
  const kinds = world.batches.map(({ calls, isPacked }) => [calls.rows, isPacked]);
  assert.deepEqual(kinds.at(0), [100, false]);
  assert.deepEqual(kinds.at(-1), [500, false]);
  assert.ok(kinds.slice(1, -1).every(([, isPacked]) => isPacked));
  assert.deepEqual(
    told,
    kinds.slice(1, -1).map(([rows]) => rows),
  );
});

test("of a packed batch, what Postgres refuses is looked for in rows", async () => {
  const refused = Object.assign(new Error("invalid byte sequence"), { code: "22021" });
  const packs = { mayPack: () => true, packed() {} };
  const { world, recorder, written } = setUp({
    ...{ packs, packAbove: 0 },
    async write(batch) {
      if (callsOf(batch).some(({ userAgent }) => userAgent === "poison")) throw refused;
      world.batches.push(batch);
    },
  });
  for (let i = 0; i < 100; i++) recorder.record({ ...call(), userAgent: i === 37 ? "poison" : "" });
  await until(written, ({ counted }) => counted === 100);
  assert.deepEqual(written(), { rows: 99, counted: 100 });
});
