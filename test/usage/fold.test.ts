/** Minutes folded into hours, hours into days: the same numbers, once, however often it is done. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { drizzle } from "drizzle-orm/postgres-js";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import type { EndedCall } from "../../src/auth/call.ts";
import { connect, type Database, database } from "../../src/db/client.ts";
import { foldRollups } from "../../src/usage/fold.ts";
import { foldedUntil } from "../../src/usage/fold-store.ts";
import { dayMs, floorTo, hourMs, minuteMs } from "../../src/usage/range.ts";
import type { WriteUsage } from "../../src/usage/store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { batchOf, callOf, createWriter } from "./batches.ts";

/** Ten whole days ago: minutes are there, and hours may be folded again. */
const origin = floorTo(dayMs, Date.now()) - 10 * dayMs;
const at = (days: number, hours = 0, minutes = 0) =>
  origin + days * dayMs + hours * hourMs + minutes * minuteMs;

let sql: postgres.Sql;
let client: postgres.Sql;
let db: Database;
let write: WriteUsage;
let batches: number;
before(async () => {
  const url = await createTestDatabase();
  sql = openSql(url);
  client = connect({ url }, { max: 1, purpose: "fold", statementTimeoutMs: 10_000 });
  db = database(client);
});
after(() => Promise.all([sql.end(), client.end()]));
beforeEach(async () => {
  await sql`TRUNCATE method_rollups, key_rollups, rollup_tops, rollup_late_hours`;
  await sql`UPDATE rollup_progress SET folded_until = NULL`;
  write = createWriter(client);
  batches = 0;
});

const put = (...calls: EndedCall[]) => write(batchOf(++batches, calls));
const fold = (nowMs: number) => foldRollups(db, { now: new Date(nowMs) });
const progress = async () => (await foldedUntil(db))?.getTime();

/** All rollups of a period, each bucket rounded down to a longer one, and added up here. */
async function sums(table: "method_rollups" | "key_rollups", periodS: number, unitMs: number) {
  const rows = await sql`SELECT *, requests::int AS requests, duration_us::int AS duration_us,
    request_bytes::int AS request_bytes, response_bytes::int AS response_bytes
    FROM ${sql(table)} WHERE period_s = ${periodS}`;
  const added = new Map<string, { numbers: number[]; latency: number[] }>();
  for (const row of rows) {
    const { api_key_id, user_id, service, method, code, denial_reason } = row;
    const bucket = new Date(floorTo(unitMs, row.bucket.getTime())).toISOString();
    const key = [bucket, api_key_id, user_id, service, method, code, denial_reason].join(" ");
    const one = added.get(key) ?? { numbers: [0, 0, 0, 0], latency: [] };
    [row.requests, row.duration_us, row.request_bytes, row.response_bytes].forEach((number, i) => {
      one.numbers[i] = (one.numbers[i] ?? 0) + number;
    });
    row.latency.forEach((count: number, i: number) => {
      one.latency[i] = (one.latency[i] ?? 0) + count;
    });
    added.set(key, one);
  }
  return Object.fromEntries([...added].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Asserts that hours and days say what the minutes say. */
async function assertFolded(untilMs: number) {
  for (const table of ["method_rollups", "key_rollups"] as const) {
    for (const [periodS, ms] of [
      [3600, hourMs],
      [86_400, dayMs],
    ] as const) {
      const expected = Object.entries(await sums(table, 60, ms)).filter(
        ([key]) => Date.parse(key.split(" ")[0] ?? "") + ms <= untilMs,
      );
      assert.deepEqual(await sums(table, periodS, ms), Object.fromEntries(expected), `${table} ${periodS}`);
    }
  }
}

/** Calls of some keys and outcomes, all over some days. */
function someCalls(count: number, days: number): EndedCall[] {
  const keys = Array.from({ length: 5 }, () => uuidv7());
  return Array.from({ length: count }, (_, i) =>
    callOf(
      keys[i % 5] ?? "",
      {
        startedAtMs: at(0) + ((i * 7919) % (days * 24 * 60)) * minuteMs + (i % 60) * 1000,
        durationUs: 20 + (i % 13) ** 5,
        code: i % 7 === 0 ? Code.NotFound : 0,
      },
      BigInt(1 + (i % 5)),
    ),
  );
}

test("hours and days say what their minutes say, of methods and of keys, in every number", async () => {
  await put(...someCalls(1500, 3));
  await fold(at(3, 0, 5));
  assert.equal(await progress(), at(3));
  await assertFolded(at(3));
  assert.equal(Object.keys(await sums("method_rollups", 86_400, dayMs)).length, 6);
});

test("what is folded again is as it was", async () => {
  await put(...someCalls(300, 2));
  await fold(at(2, 3));
  const before = [await sums("key_rollups", 3600, hourMs), await sums("method_rollups", 86_400, dayMs)];
  await sql`INSERT INTO rollup_late_hours (hour)
    SELECT generate_series(${new Date(at(0))}, ${new Date(at(2))}, interval '1 hour')`;
  await fold(at(2, 3));
  assert.deepEqual(
    [await sums("key_rollups", 3600, hourMs), await sums("method_rollups", 86_400, dayMs)],
    before,
  );
  await assertFolded(at(2, 2));
});

test("an hour is folded five minutes after its end, its day with its last hour, and no sooner", async () => {
  const key = uuidv7();
  await put(callOf(key, { startedAtMs: at(0, 22, 59) }), callOf(key, { startedAtMs: at(0, 23, 59) }));
  const count = async () =>
    (await sql`SELECT period_s FROM method_rollups WHERE period_s > 60 ORDER BY period_s`).map(
      (row) => row.period_s,
    );
  await fold(at(0, 23, 5) - 1);
  assert.deepEqual([await count(), await progress()], [[], undefined]);
  await fold(at(0, 23, 5));
  assert.deepEqual([await count(), await progress()], [[3600], at(0, 23)]);
  await fold(at(1, 0, 5) - 1);
  assert.deepEqual([await count(), await progress()], [[3600], at(0, 23)]);
  await fold(at(1, 0, 5));
  assert.deepEqual([await count(), await progress()], [[3600, 3600, 86_400], at(1)]);
});

test("after a long stop the fold catches up, and goes over what is empty in one step", async () => {
  const key = uuidv7();
  const hours = [at(-400, 7), at(-399, 23), at(-3, 5), at(1, 1)];
  await put(...hours.map((startedAtMs) => callOf(key, { startedAtMs })));
  let folds = 0;
  const watched = drizzle(client, {
    logger: {
      logQuery(query) {
        if (query.includes('INTO "method_rollups"')) folds++;
      },
    },
  });
  await foldRollups(watched, { now: new Date(at(3)) });
  assert.equal(await progress(), floorTo(hourMs, at(3) - 5 * minuteMs));
  await assertFolded(at(2, 23));
  // Four hours, the days of them, and at most as many days that an empty stretch ends in.
  assert.ok(folds <= 12, `${folds} folds`);
});

test("without any minute there is nothing to fold, and the fold begins with the first", async () => {
  await fold(at(5));
  assert.equal(await progress(), undefined);
  await put(callOf(uuidv7(), { startedAtMs: at(5, 1) }));
  await fold(at(5, 3));
  assert.equal(await progress(), at(5, 2));
  await assertFolded(at(5, 2));
});

test("counts that outgrow their column do not stop the fold", async () => {
  const key = uuidv7();
  await put(callOf(key, { startedAtMs: at(0, 1, 1) }), callOf(key, { startedAtMs: at(0, 1, 2) }));
  await sql`UPDATE method_rollups SET latency[1] = 2147483647, requests = 2147483647`;
  await fold(at(0, 3));
  const [hour] = await sql`SELECT requests, latency[1] AS count FROM method_rollups WHERE period_s = 3600`;
  assert.deepEqual({ ...hour }, { requests: "4294967294", count: 2_147_483_647 });
});

test("a call of more than 28 days counts 28 days before its end", async () => {
  const startedAtMs = at(-40, 0, 1);
  await put(callOf(uuidv7(), { startedAtMs, durationUs: 35 * dayMs * 1000 }));
  const [row] = await sql`SELECT bucket FROM key_rollups`;
  assert.equal(row?.bucket.getTime(), startedAtMs + 7 * dayMs);
});

test("an hour whose minutes may be gone is not folded again: it keeps what it has", async () => {
  const key = uuidv7();
  const startedAtMs = at(-40, 5, 1);
  await put(callOf(key, { startedAtMs }), callOf(key, { startedAtMs }));
  await fold(at(0, 1));
  await sql`DELETE FROM method_rollups WHERE period_s = 60`;
  await put(callOf(key, { startedAtMs }));
  await fold(at(0, 1));
  const rows = await sql`SELECT requests FROM method_rollups WHERE period_s > 60`;
  assert.deepEqual(
    rows.map(({ requests }) => requests),
    ["2", "2"],
  );
  assert.equal((await sql`SELECT FROM rollup_late_hours`).length, 0);
});

test("the busiest 500 keys and users of each hour and day are listed, with the most that another had", async () => {
  const calls = (count: number, startedAtMs: number) =>
    Array.from({ length: count }, (_, n) => {
      const key = `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
      // Key n has 1 + n % 3 calls; two keys a user.
      return Array.from({ length: 1 + (n % 3) }, () => callOf(key, { startedAtMs }, BigInt(1 + (n >> 1))));
    }).flat();
  await put(...calls(600, at(0, 1, 1)));
  await put(...calls(30, at(0, 2, 1)));
  await fold(at(1, 1));
  const list = (periodS: number, hour: number, kind: string) =>
    sql`SELECT rank, requests::int, rest::int, user_id::int, api_key_id FROM rollup_tops
      WHERE period_s = ${periodS} AND bucket = ${new Date(at(0, hour))} AND kind = ${kind} ORDER BY rank`;
  const many = await list(3600, 1, "key");
  assert.deepEqual(
    many.map(({ rank, requests, rest }) => [rank, requests, rest]),
    Array.from({ length: 500 }, (_, i) => [i + 1, i < 200 ? 3 : i < 400 ? 2 : 1, 1]),
  );
  assert.equal(new Set(many.map(({ api_key_id }) => api_key_id)).size, 500);
  assert.ok(many.every(({ user_id, api_key_id }) => user_id === 1 + (Number(api_key_id.slice(-12)) >> 1)));
  const few = await list(3600, 2, "key");
  assert.deepEqual([few.length, few[0]?.requests, few[0]?.rest], [30, 3, 0]);
  const users = await list(3600, 1, "user");
  assert.deepEqual([users.length, users[0]?.requests, users[299]?.requests, users[0]?.rest], [300, 5, 3, 0]);
  const day = await list(86_400, 0, "key");
  assert.deepEqual([day.length, day[0]?.requests, day[0]?.rest], [500, 6, 1]);
});
