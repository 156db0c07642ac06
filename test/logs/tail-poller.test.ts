/** One poller and its readers over a store that is made up: what is handed out, counted, retried and ended. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { RequestLogRow } from "../../src/logs/row.ts";
import { createLogTails, type LogTailsOptions } from "../../src/logs/tail.ts";
import { maxWaitingRows, type TailMessage, TailQueue } from "../../src/logs/tail-queue.ts";
import type { TailedBatch, TailStore } from "../../src/logs/tail-store.ts";
import { until } from "../harness/until.ts";

let made = 0;
function rowsOf(count: number, change: Partial<RequestLogRow> = {}): RequestLogRow[] {
  return Array.from({ length: count }, () => ({
    time: "2026-01-02T03:04:05.000006Z",
    id: `row ${made++}`,
    service: "a.A",
    method: "Get",
    protocol: "grpc",
    code: 0,
    denialReason: null,
    userId: null,
    apiKeyId: null,
    credentialKind: "none",
    durationUs: 1n,
    requestBytes: null,
    responseBytes: null,
    peerAddress: null,
    userAgent: "",
    requestId: "r",
    instanceId: "i",
    errorMessage: null,
    traceId: null,
    ...change,
  }));
}

/** A store with a log that the test writes to. */
function fakeStore() {
  const batches: (TailedBatch & { content: RequestLogRow[] })[] = [];
  const fake = {
    /** The newest batch of each instance, with or without its keys. */
    last: new Map<string, number>(),
    held: false,
    away: false,
    looks: 0,
    releases: 0,
    sawLease: 0,
    /** Held back: the writers that began before the lease. */
    writers: Promise.resolve(),
    commit(content: RequestLogRow[], instanceId = "i", batch = (fake.last.get(instanceId) ?? 0) + 1) {
      fake.last.set(instanceId, batch);
      batches.push({ instanceId, batch, rows: content.length, content });
    },
  };
  const ask = async <T>(answer: () => T): Promise<T> => {
    if (fake.away) throw new Error("the database is away");
    return answer();
  };
  const store: TailStore = {
    renew: () =>
      ask(() => {
        const before = fake.held;
        fake.held = true;
        return before;
      }),
    async writersSeeLease() {
      await fake.writers;
      fake.sawLease++;
    },
    lastBatches: () => ask(() => new Map(fake.last)),
    readBatches: (after) =>
      ask(() => {
        fake.looks++;
        return batches.filter(({ instanceId, batch }) => batch > (after.get(instanceId) ?? 0));
      }),
    readRows: (wanted) =>
      ask(() => batches.filter((batch) => wanted.includes(batch)).flatMap((b) => b.content)),
    sweep: () => ask(() => {}),
    release: () =>
      ask(() => {
        fake.held = false;
        fake.releases++;
      }),
  };
  return { fake, store };
}

function setUp(options: Partial<LogTailsOptions> = {}) {
  const { fake, store } = fakeStore();
  const errors: string[] = [];
  const tails = createLogTails({ store, onError: (message) => errors.push(message), pollMs: 1, ...options });
  /** Opens a reader and takes its first message. */
  const open = async (filter = {}) => {
    const stop = new AbortController();
    const stream = tails.open(filter, stop.signal);
    const first = await stream.next();
    assert.deepEqual(first.value, { rows: [], skipped: 0 });
    const next = async (): Promise<TailMessage> => (await stream.next()).value ?? assert.fail("it ended");
    return { next, stream, stop: () => stop.abort(new ConnectError("gone", Code.Canceled)) };
  };
  /** Until what was committed before has been handed out. */
  const looked = async () => {
    const before = fake.looks;
    await until(
      () => fake.looks,
      (now) => now > before + 1,
    );
  };
  return { fake, store, tails, errors, open, looked };
}

test("a reader gets what is committed after its first message, filtered, in messages of at most 100 rows", async (t) => {
  const { fake, tails, open } = setUp();
  t.after(() => tails.close());
  fake.commit(rowsOf(5));
  const all = await open();
  const failed = await open({ code: 5 });
  const [ok, bad] = [rowsOf(230), rowsOf(3, { code: 5 })];
  fake.commit([...ok, ...bad]);
  const sizes: number[] = [];
  const rows: RequestLogRow[] = [];
  while (rows.length < 233) {
    const message = await all.next();
    assert.equal(message.skipped, 0);
    sizes.push(message.rows.length);
    rows.push(...message.rows);
  }
  assert.deepEqual(sizes, [100, 100, 33]);
  assert.deepEqual(rows, [...ok, ...bad]);
  assert.deepEqual(await failed.next(), { rows: bad, skipped: 0 });
});

test("the first message waits for writers that began before the lease", async (t) => {
  const { fake, tails } = setUp();
  t.after(() => tails.close());
  const writers = Promise.withResolvers<void>();
  fake.writers = writers.promise;
  let began = false;
  const first = tails
    .open({}, new AbortController().signal)
    .next()
    .then(() => {
      began = true;
    });
  await until(
    () => fake.held,
    (held) => held,
  );
  assert.equal(began, false);
  writers.resolve();
  await first;
  assert.equal(fake.sawLease, 1);
});

test("a reader that does not read keeps a bounded number of rows and is told how many were left out", async (t) => {
  const { fake, tails, open, looked } = setUp();
  t.after(() => tails.close());
  const slow = await open({ code: 5 });
  for (let n = 0; n < 8; n++) {
    fake.commit([...rowsOf(300, { code: 5 }), ...rowsOf(50)]);
    await looked();
  }
  const messages: TailMessage[] = [];
  for (let rows = 0; rows < maxWaitingRows; rows += messages.at(-1)?.rows.length ?? 0) {
    messages.push(await slow.next());
  }
  assert.deepEqual(
    messages.map(({ skipped }) => skipped),
    [8 * 300 - maxWaitingRows, ...Array.from({ length: 9 }, () => 0)],
  );
  // It has caught up: nothing more is left out.
  const fresh = rowsOf(2, { code: 5 });
  fake.commit(fresh);
  assert.deepEqual(await slow.next(), { rows: fresh, skipped: 0 });
});

test("the rows that wait for a reader are never more than the bound", () => {
  const queue = new TailQueue();
  for (let n = 0; n < 10; n++) queue.push(rowsOf(maxWaitingRows - 1));
  assert.equal(queue.size, maxWaitingRows);
});

test("of more rows than one look takes, the others are counted as skipped", async (t) => {
  const { fake, tails, open } = setUp({ maxRowsPerPoll: 50 });
  t.after(() => tails.close());
  const reader = await open();
  for (const size of [30, 15, 10, 40]) fake.commit(rowsOf(size), "i");
  const found = [await reader.next()];
  // The four may have come in two looks.
  const total = () => found.reduce((sum, { rows, skipped }) => sum + rows.length + skipped, 0);
  while (total() < 95) found.push(await reader.next());
  assert.equal(total(), 95);
  assert.ok(found.some(({ skipped }) => skipped > 0));
});

test("batches that left no keys are counted, those before another's and those that are the last", async (t) => {
  const { fake, tails, open, looked } = setUp();
  t.after(() => tails.close());
  fake.commit(rowsOf(1), "a", 7);
  fake.commit(rowsOf(1), "b", 2);
  const reader = await open();
  const [a] = [rowsOf(1)];
  fake.commit(a, "a", 10);
  assert.deepEqual(await reader.next(), { rows: a, skipped: 2 });
  // An instance that is new has missed nothing.
  const c = rowsOf(1);
  fake.commit(c, "c", 3);
  assert.deepEqual(await reader.next(), { rows: c, skipped: 0 });
  // A lease that ran out, found when it is renewed.
  await looked();
  fake.last.set("b", 6);
  fake.held = false;
  assert.deepEqual(await reader.next(), { rows: [], skipped: 4 });
  assert.equal(fake.sawLease, 2);
});

test("an outage is told once, ends no reader, and is over when the database is back", async (t) => {
  const { fake, tails, errors, open } = setUp();
  t.after(() => tails.close());
  const reader = await open();
  for (const outage of [1, 2]) {
    fake.away = true;
    await until(
      () => errors.length,
      (told) => told === outage,
    );
    fake.away = false;
    const rows = rowsOf(1);
    fake.commit(rows);
    assert.deepEqual(await reader.next(), { rows, skipped: 0 });
  }
  assert.equal(errors.length, 2);
});

test("more readers than allowed are refused, and there is room again when one has gone", async (t) => {
  const { tails, open } = setUp({ maxReaders: 2 });
  t.after(() => tails.close());
  const first = await open();
  await open();
  await assert.rejects(open(), { code: Code.ResourceExhausted });
  assert.equal(tails.size, 2);
  const ended = assert.rejects(first.next(), { code: Code.Canceled });
  first.stop();
  await ended;
  await open();
  assert.equal(tails.size, 2);
});

test("a reader that is left between two messages is gone, though nobody asks it again", async (t) => {
  const { tails, open } = setUp();
  t.after(() => tails.close());
  const reader = await open();
  reader.stop();
  assert.equal(tails.size, 0);
});

test("without readers the lease is given up; the next reader takes another", async (t) => {
  const { fake, tails, open } = setUp();
  t.after(() => tails.close());
  for (const round of [1, 2, 3]) {
    const reader = await open();
    assert.equal(fake.held, true);
    assert.equal(fake.sawLease, round);
    reader.stop();
    await until(
      () => fake.releases,
      (releases) => releases === round,
    );
    assert.equal(fake.held, false);
  }
});

test("a stop ends every reader with unavailable, also one that waits for the database, and gives the lease up", async () => {
  const { fake, tails, open } = setUp();
  const reader = await open();
  const ended = assert.rejects(reader.next(), { code: Code.Unavailable });
  await tails.close();
  await ended;
  assert.equal(fake.held, false);
  assert.equal(tails.size, 0);
  await assert.rejects(open(), { code: Code.Unavailable });

  const other = setUp();
  other.fake.away = true;
  const waiting = assert.rejects(other.open(), { code: Code.Unavailable });
  await until(
    () => other.errors.length,
    (told) => told === 1,
  );
  await other.tails.close();
  await waiting;
});
