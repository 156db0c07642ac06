/** The busiest keys and users, found by lists of the busiest of each hour and day. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import fc from "fast-check";
import type postgres from "postgres";
import { connect, type Database, database } from "../../src/db/client.ts";
import { foldRollups } from "../../src/usage/fold.ts";
import { dayMs, floorTo, hourMs } from "../../src/usage/range.ts";
import { createStatsStore, type StatsFilter } from "../../src/usage/stats-store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";

const origin = floorTo(dayMs, Date.now()) - 10 * dayMs;
const at = (hours: number) => origin + hours * hourMs;
const range = { startMs: at(0), endMs: at(48) };

let sql: postgres.Sql;
let client: postgres.Sql;
let db: Database;
before(async () => {
  const url = await createTestDatabase();
  sql = openSql(url);
  client = connect({ url }, { max: 1, purpose: "fold", statementTimeoutMs: 30_000 });
  db = database(client);
});
after(() => Promise.all([sql.end(), client.end()]));
beforeEach(clear);

async function clear() {
  await sql`TRUNCATE method_rollups, key_rollups, rollup_tops, rollup_late_hours`;
  await sql`UPDATE rollup_progress SET folded_until = NULL`;
}

const keyOf = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

/** Minute rollups: of key and hour, so many requests. Key n belongs to user n / 2. */
async function put(rows: readonly (readonly [key: number, hour: number, requests: number])[], method = "m") {
  const keys = rows.map(([key]) => keyOf(key));
  const users = rows.map(([key]) => 1 + (key >> 1));
  const hours = rows.map(([, hour]) => new Date(at(hour)).toISOString());
  const requests = rows.map((row) => row[2]);
  await sql`
    INSERT INTO key_rollups (api_key_id, user_id, period_s, bucket, service, method, code, requests, duration_us,
      request_bytes, response_bytes, latency)
    SELECT api_key_id, user_id, 60, bucket, 's', ${method}, 0, requests, requests, 0, 0, ARRAY[requests]
    FROM unnest(${keys}::uuid[], ${users}::int[], ${hours}::timestamptz[], ${requests}::int[])
      AS row (api_key_id, user_id, bucket, requests)
    ON CONFLICT (api_key_id, user_id, period_s, bucket, service, method, code, denial_reason)
      DO UPDATE SET requests = key_rollups.requests + excluded.requests`;
  // For the fold to see that there is something.
  await sql`
    INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency)
    SELECT DISTINCT 60, bucket, 's', ${method}, 0, 1, 1, 1, 1, '{1}'::int[] FROM unnest(${hours}::timestamptz[]) AS row (bucket)
    ON CONFLICT DO NOTHING`;
}

const fold = (hours: number) => foldRollups(db, { now: new Date(at(hours) + 300_000) });

async function busiest(by: "key" | "user", limit: number, filter: StatsFilter = {}) {
  const { groups, complete } = await createStatsStore(db).breakdown(filter, range, { by, limit });
  return {
    complete,
    found: groups.map(
      ({ values, sums }) => [values.apiKeyId ?? values.userId, Number(sums.requests)] as const,
    ),
  };
}

/** From the minutes alone. */
async function truth(by: "key" | "user", method?: string) {
  const id = sql(by === "key" ? "api_key_id" : "user_id");
  const rows = await sql`SELECT ${id} AS id, sum(requests)::int AS n FROM key_rollups
    WHERE period_s = 60 AND (${method ?? null}::text IS NULL OR method = ${method ?? null})
    GROUP BY ${id} ORDER BY n DESC, id`;
  return rows.map(({ id, n }) => [by === "key" ? id : BigInt(id), n] as const);
}

test("where few have called, the busiest are exact and complete, folded or not", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(30), fc.nat(47), fc.integer({ min: 1, max: 9 })), { maxLength: 60 }),
      fc.integer({ min: 0, max: 48 }),
      fc.integer({ min: 1, max: 12 }),
      async (rows, foldedHours, limit) => {
        await clear();
        await put(merged(rows));
        await fold(foldedHours);
        for (const by of ["key", "user"] as const) {
          assert.deepEqual(await busiest(by, limit), {
            complete: true,
            found: (await truth(by)).slice(0, limit),
          });
        }
      },
    ),
    { numRuns: 15 },
  );
});

function merged(rows: readonly (readonly [number, number, number])[]) {
  const sums = new Map<string, [number, number, number]>();
  for (const [key, hour, requests] of rows) {
    const sum = sums.get(`${key} ${hour}`) ?? [key, hour, 0];
    sum[2] += requests;
    sums.set(`${key} ${hour}`, sum);
  }
  return [...sums.values()];
}

/** 700 keys in each of two days and a bit, more than lists hold. */
async function putMany(requests: (key: number, hour: number) => number) {
  for (const hour of [3, 9, 30, 47]) {
    await put(Array.from({ length: 700 }, (_, key) => [key, hour, requests(key, hour)] as const));
  }
}

test("of many keys, those that stand out are found, and it is known that none is missing", async () => {
  await putMany((key) => (key % 100 === 7 ? 1000 + key : 1));
  await fold(47);
  const expected = (await truth("key")).slice(0, 7);
  assert.ok(expected.every(([, n]) => n > 4000));
  assert.deepEqual(await busiest("key", 7), { complete: true, found: expected });
  // One more than stand out: any of the others is as good, and one may be left out that has as many.
  const { found } = await busiest("key", 8);
  assert.deepEqual(found.slice(0, 7), expected);
  assert.equal(found[7]?.[1], 4);
});

test("where a key that no list has may be as busy, it is said that one may be missing, and numbers are exact all the same", async () => {
  // Of each day's 600, 100 are not listed, and could be among those that the other day does not list.
  const those = (from: number, hour: number) =>
    put(Array.from({ length: 600 }, (_, n) => [from + n, hour, 10] as const));
  await those(0, 5);
  await those(600, 30);
  await fold(47);
  const all = new Map(await truth("key"));
  const { complete, found } = await busiest("key", 10);
  assert.equal(complete, false);
  assert.equal(found.length, 10);
  for (const [key, requests] of found) assert.equal(requests, all.get(key));
});

test("it is never said that none is missing where one is", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1, max: 40 }),
      async (seed, spread) => {
        await clear();
        await putMany(
          (key, hour) => 1 + ((key * 7919 + hour * 104_729 * seed) % (key % spread === 0 ? 50 : 5)),
        );
        await fold(30);
        const all = await truth("key");
        const sums = new Map(all);
        const { complete, found } = await busiest("key", 5);
        for (const [key, requests] of found) assert.equal(requests, sums.get(key));
        if (complete)
          assert.deepEqual(
            found.map(([, n]) => n),
            all.slice(0, 5).map(([, n]) => n),
          );
      },
    ),
    { numRuns: 8 },
  );
});

test("under a filter that lists know nothing of, numbers are exact; of few keys, it is known that none is missing", async () => {
  await put(Array.from({ length: 40 }, (_, key) => [key, 5, 100 + key] as const));
  await put(
    [
      [3, 6, 5],
      [5, 6, 7],
      [39, 30, 1],
    ],
    "rare",
  );
  await fold(48);
  const expected = await truth("key", "rare");
  assert.deepEqual(await busiest("key", 10, { method: "rare" }), { complete: true, found: expected });
  assert.deepEqual(await busiest("key", 2, { method: "rare" }), {
    complete: true,
    found: expected.slice(0, 2),
  });

  await clear();
  await putMany((key) => 10 + (key % 3));
  await put([[699, 6, 5]], "rare");
  await fold(48);
  assert.equal((await busiest("key", 10, { method: "rare" })).complete, false);
});

test("calls that named a user without a key are one group among the keys", async () => {
  await put([[1, 2, 5]]);
  const noKey = "00000000-0000-0000-0000-000000000000";
  await put(
    [
      [2, 2, 3],
      [4, 2, 3],
      [6, 30, 1],
    ],
    "unkeyed",
  );
  await sql`UPDATE key_rollups SET api_key_id = ${noKey} WHERE method = 'unkeyed'`;
  for (const hours of [0, 48]) {
    await fold(hours);
    assert.deepEqual((await busiest("key", 10)).found, [
      [noKey, 7],
      [keyOf(1), 5],
    ]);
    assert.deepEqual((await busiest("user", 10)).found, [
      [1n, 5],
      [2n, 3],
      [3n, 3],
      [4n, 1],
    ]);
  }
});
