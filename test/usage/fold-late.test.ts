/** What is written while and after its hour is folded: there in the end, once. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { SQL } from "drizzle-orm";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import { connect, database, type Executor } from "../../src/db/client.ts";
import { foldRollups } from "../../src/usage/fold.ts";
import { foldedUntil } from "../../src/usage/fold-store.ts";
import { dayMs, floorTo, hourMs, minuteMs } from "../../src/usage/range.ts";
import { createStatsStore } from "../../src/usage/stats-store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { batchOf, callOf, createWriter } from "./batches.ts";

const origin = floorTo(dayMs, Date.now()) - 10 * dayMs;
const at = (days: number, hours = 0, minutes = 0) =>
  origin + days * dayMs + hours * hourMs + minutes * minuteMs;
const now = new Date(at(3, 0, 10));

let url: string;
let sql: postgres.Sql;
const clients: postgres.Sql[] = [];
before(async () => {
  url = await createTestDatabase();
  sql = openSql(url);
});
after(() => Promise.all([sql, ...clients].map((client) => client.end())));
beforeEach(async () => {
  await sql`TRUNCATE method_rollups, key_rollups, rollup_tops, rollup_late_hours, request_logs`;
  await sql`UPDATE rollup_progress SET folded_until = NULL`;
});

function open(max = 1): postgres.Sql {
  const client = connect({ url }, { max, purpose: "fold", statementTimeoutMs: 30_000 });
  clients.push(client);
  return client;
}

test("a server folds every minute", async (t) => {
  await createWriter(open())(batchOf(1, [callOf(uuidv7(), { startedAtMs: at(1, 12, 30) })]));
  t.mock.timers.enable({ apis: ["setInterval"] });
  const server = await startServer({ databaseUrl: url });
  try {
    assert.equal(await foldedUntil(database(open())), undefined);
    t.mock.timers.tick(minuteMs);
    await until(requests, (found) => found["method 86400"] === 1);
  } finally {
    await server.close();
  }
});

/** Requests by period, of methods and of keys. */
async function requests(): Promise<Record<string, number>> {
  const rows = await sql`
    SELECT 'method ' || period_s AS what, sum(requests)::int AS n FROM method_rollups GROUP BY period_s
    UNION ALL SELECT 'key ' || period_s, sum(requests)::int FROM key_rollups GROUP BY period_s`;
  return Object.fromEntries(rows.map(({ what, n }) => [what, n]));
}
const all = (n: number) => ({
  "method 60": n,
  "method 3600": n,
  "method 86400": n,
  "key 60": n,
  "key 3600": n,
  "key 86400": n,
});
const marks = async () =>
  (await sql`SELECT hour FROM rollup_late_hours ORDER BY hour`).map(({ hour }) => +hour);

test("a batch marks the hours of minutes that are older than three minutes, and no other", async () => {
  const write = createWriter(open());
  const key = uuidv7();
  await write(batchOf(1, [callOf(key), callOf(key, { startedAtMs: Date.now() - 1.5 * minuteMs })]));
  assert.deepEqual(await marks(), []);
  const hourAgo = Date.now() - hourMs;
  const one = batchOf(2, [
    callOf(key),
    ...[hourAgo, at(0, 2, 1), at(0, 2, 59), at(1, 23)].map((startedAtMs) => callOf(key, { startedAtMs })),
  ]);
  await write(one);
  const expected = [at(0, 2), at(1, 23), floorTo(hourMs, hourAgo)];
  assert.deepEqual(await marks(), expected);
  await write(one);
  assert.deepEqual(await marks(), expected, "sent again, it marks nothing again");
});

test("what comes after its hour was folded is folded in at the next turn, into its day as well", async () => {
  const write = createWriter(open());
  const db = database(open());
  const key = uuidv7();
  const startedAtMs = at(1, 12, 30);
  await write(batchOf(1, [callOf(key, { startedAtMs })]));
  await foldRollups(db, { now });
  assert.deepEqual(await requests(), all(1));
  assert.deepEqual(await marks(), [], "what was not folded yet needs no mark");
  await write(batchOf(2, [callOf(key, { startedAtMs }), callOf(key, { startedAtMs: at(0, 1) })]));
  // Until then, minutes may not be dropped.
  assert.equal((await foldedUntil(db))?.getTime(), at(0, 1));
  await foldRollups(db, { now });
  assert.deepEqual(await requests(), all(3));
  assert.deepEqual(await marks(), []);
  assert.equal((await foldedUntil(db))?.getTime(), at(3));
});

test("the fold does not pass a writer that has not committed", async () => {
  const db = database(open());
  const key = uuidv7();
  await createWriter(open())(batchOf(1, [callOf(key, { startedAtMs: at(0, 1) })]));
  const writer = await sql.reserve();
  try {
    await writer`BEGIN`;
    // As a batch does that took its minute for the present, and then was held up.
    await writer`
      INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency)
      VALUES (60, ${new Date(at(0, 1, 1))}, 's', 'm', 0, 1, 1, 1, 1, '{1}')`;
    await foldRollups(db, { now, settleMs: 0 });
    assert.equal(await foldedUntil(db), undefined);
    const waiting = foldRollups(db, { now });
    await writer`COMMIT`;
    await waiting;
  } finally {
    await writer`ROLLBACK`;
    writer.release();
  }
  const { "method 3600": hours, "method 86400": days } = await requests();
  assert.deepEqual([hours, days], [2, 2]);
});

test("a batch is in a sum as a whole or not at all, though it comes between what is folded being read and the sum", async () => {
  const db = database(open());
  const write = createWriter(open());
  const key = uuidv7();
  const [foldedHour, hour] = [at(0, 1), at(0, 3)];
  const calls = () => [callOf(key, { startedAtMs: foldedHour }), callOf(key, { startedAtMs: hour })];
  await write(batchOf(1, calls()));
  await foldRollups(db, { now: new Date(at(0, 2, 5)) });
  let number = 1;
  const interrupted = Object.create(db, {
    transaction: {
      value: (run: (tx: Executor) => Promise<unknown>, config: object) =>
        db.transaction((tx) => {
          const { execute } = tx;
          return run(
            Object.assign(tx, {
              async execute(query: SQL) {
                const rows = await execute.call(tx, query);
                await write(batchOf(++number, calls()));
                return rows;
              },
            }),
          );
        }, config),
    },
  }) as typeof db;
  const range = { startMs: at(0), endMs: at(1) };
  const seen = await createStatsStore(interrupted).overview({}, range);
  assert.ok(number >= 4, "it was interrupted after each statement");
  assert.equal(seen?.requests, 2n);
  assert.equal((await createStatsStore(db).overview({}, range))?.requests, BigInt(2 * number));
});

test("while many write into the same hours and several fold, nothing is lost, nothing counts twice, and no sum is ever wrong", async () => {
  const keys = Array.from({ length: 8 }, () => uuidv7());
  const folders = Array.from({ length: 2 }, () => database(open()));
  const stats = createStatsStore(database(open(2)));
  const range = { startMs: at(0), endMs: at(3) };
  // Something to begin with, so that there are days that are folded from the start on.
  await createWriter(open())(batchOf(1, [callOf(keys[0] ?? "", { startedAtMs: at(0, 0, 1) })]));
  let begun = 1;
  let ended = 1;
  let isWriting = true;
  const writing = Promise.all(
    Array.from({ length: 3 }, async (_, w) => {
      const write = createWriter(open());
      for (let number = 1; number <= 40; number++) {
        const calls = keys.map((key, k) =>
          callOf(key, { startedAtMs: at(0) + ((number * 37 + w * 11 + k * 501) % (3 * 24 * 60)) * minuteMs }),
        );
        begun += calls.length;
        await write(batchOf(number, calls));
        ended += calls.length;
      }
    }),
  ).finally(() => {
    isWriting = false;
  });
  let looks = 0;
  let folds = 0;
  const folding = folders.map(async (db) => {
    while (isWriting) {
      await foldRollups(db, { now });
      folds++;
    }
  });
  const looking = (async () => {
    while (isWriting) {
      const least = ended;
      const seen = Number((await stats.overview({}, range))?.requests);
      assert.ok(seen >= least && seen <= begun, `${least} <= ${seen} <= ${begun}`);
      const { groups } = await stats.breakdown({}, range, { by: "key", limit: 100 });
      const byKey = groups.reduce((sum, { sums }) => sum + Number(sums.requests), 0);
      assert.ok(byKey >= seen && byKey <= begun, `${seen} <= ${byKey} <= ${begun}`);
      looks++;
    }
  })();
  await Promise.all([writing, looking, ...folding]);
  assert.ok(looks >= 3 && folds >= 3, `${looks} looks, ${folds} folds`);
  const total = 1 + 3 * 40 * 8;
  await Promise.all(folders.map((db) => foldRollups(db, { now })));
  await foldRollups(folders[0] ?? database(open()), { now });
  assert.deepEqual(await requests(), all(total));
  assert.deepEqual(await marks(), []);
});
