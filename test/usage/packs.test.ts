/** Batches that are packed: their rows are those that would have been written, each once, whatever comes between. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { Code } from "@connectrpc/connect";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import type { EndedCall } from "../../src/auth/call.ts";
import { connect, type Database, database } from "../../src/db/client.ts";
import { createTailStore } from "../../src/logs/tail-store.ts";
import { createPackStore, type PackStore } from "../../src/usage/pack-store.ts";
import type { UsageBatch } from "../../src/usage/store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { batchOf, callOf, createWriter, insertKey } from "./batches.ts";

let url: string;
let sql: postgres.Sql;
const clients: postgres.Sql[] = [];
before(async () => {
  url = await createTestDatabase();
  sql = openSql(url);
});
after(() => Promise.all([sql, ...clients].map((client) => client.end())));
beforeEach(
  () =>
    sql`TRUNCATE request_logs, request_log_packs, request_log_tail, api_key_usage, method_rollups, key_rollups`,
);

function open(): postgres.Sql {
  const client = connect({ url }, { max: 1, purpose: "test", statementTimeoutMs: 10_000 });
  clients.push(client);
  return client;
}
const openStore = (): PackStore => createPackStore(database(open()), database(open()));

const createKey = () => insertKey(sql);

const packed = (number: number, calls: EndedCall[]): UsageBatch => ({
  ...batchOf(number, calls),
  isPacked: true,
});

async function unpackAll(store: PackStore): Promise<{ rows: number; droppedRows: number }> {
  const sum = { rows: 0, droppedRows: 0 };
  for (;;) {
    const unpacked = await store.unpackNext();
    if (unpacked === undefined) return sum;
    sum.rows += unpacked.rows;
    sum.droppedRows += unpacked.droppedRows;
  }
}

async function counts() {
  const [found] = await sql`SELECT (SELECT count(*)::int FROM request_logs) AS rows,
    (SELECT coalesce(sum(rows), 0)::int FROM request_log_packs) AS packed,
    (SELECT coalesce(sum(request_count), 0)::int FROM api_key_usage) AS counted,
    (SELECT coalesce(sum(requests), 0)::int FROM method_rollups WHERE period_s = 60) AS rolled_up`;
  return { ...found };
}

/** Of every sort: what may be NULL is and is not, and texts are such as have to be quoted. */
function sundry(key: string): EndedCall[] {
  const odd = `a "quoted", {braced} \\ text, NULL, 'ü' 🙂`;
  const { verdict } = callOf(key);
  return [
    callOf(key, { peerAddress: "2001:db8::1", userAgent: odd }),
    callOf(key, { requestId: "mine", traceId: "0af7651916cd43dd8448eb211c80319c", protocol: "connect" }),
    callOf(key, { code: Code.NotFound, errorMessage: odd, peerAddress: "10.1.2.3", durationUs: 3e12 }),
    callOf(key, { requestBytes: undefined, responseBytes: 2 ** 40, startedAtMs: Date.UTC(2026, 0, 2, 3) }),
    callOf(key, { verdict: undefined, code: Code.Unauthenticated, requestId: "NULL" }),
    callOf(key, {
      verdict: verdict && { ...verdict, denial: "REVOKED", principal: undefined },
      code: Code.Unauthenticated,
    }),
    callOf(key, {
      verdict: verdict && {
        ...verdict,
        credentialKind: "secret_key",
        subject: { userId: 7n, apiKeyId: undefined },
        principal: undefined,
      },
    }),
  ];
}

test("rows that were packed are those that would have been written", async () => {
  const calls = sundry(await createKey());
  const rowsOf = () => sql`SELECT to_jsonb(l) - 'instance_id' AS row FROM request_logs l ORDER BY id`;
  await createWriter(open())(batchOf(1, calls));
  const written = await rowsOf();
  assert.equal(written.length, calls.length);
  const before = await counts();
  await sql`TRUNCATE request_logs`;
  await createWriter(open())(packed(1, calls));
  // Counted at once, and exactly as much.
  assert.deepEqual(await counts(), {
    rows: 0,
    packed: calls.length,
    counted: before.counted * 2,
    rolled_up: before.rolled_up * 2,
  });
  const [pack] = await sql`SELECT instance_id FROM request_log_packs`;
  assert.deepEqual(await unpackAll(openStore()), { rows: calls.length, droppedRows: 0 });
  assert.deepEqual([...(await rowsOf())], [...written]);
  assert.equal((await counts()).packed, 0);
  const [instance] = await sql`SELECT DISTINCT instance_id FROM request_logs`;
  assert.equal(instance?.instance_id, pack?.instance_id);
});

test("what waits as an earlier version packed it is laid out too, and such an instance writes no more of it", async () => {
  const ids = [uuidv7(), uuidv7()];
  const instanceId = uuidv7();
  const pack = () => sql`
    INSERT INTO request_log_packs (instance_id, rows, base_ms, columns) VALUES (${instanceId}, 2, 1794000000000, ${[
      ...[
        `{${ids}}`,
        "{1,1}",
        "{0,1}",
        "{NULL,r}",
        '{NULL,"10.0.0.1"}',
        "{}",
        "{}",
        "{0,5}",
        "{30,40}",
        "{-1,7}",
      ],
      ...["{1,2}", "{api.S}", "{Get}", "{grpc}", "{0}", "{}", "{none}", "{curl}", "{7}", `{${instanceId}}`],
    ]})`;
  await sql`ALTER TABLE request_log_packs DROP CONSTRAINT request_log_packs_columns_check`;
  await pack();
  await sql`INSERT INTO request_log_packs (instance_id, rows, base_ms, columns)
    SELECT ${uuidv7()}, 2, base_ms, ARRAY[${`{${[uuidv7(), uuidv7()]}}`}] || columns[2:4] || ARRAY['{}'] || columns[6:]
    FROM request_log_packs`;
  const file = new URL("../../drizzle/0007_shorter_packs.sql", import.meta.url);
  await sql.begin((tx) => tx.unsafe(readFileSync(file, "utf8")).simple());
  const both = await sql`SELECT count(*)::int AS packs FROM request_log_packs`;
  assert.equal(both[0]?.packs, 2);
  assert.deepEqual(await unpackAll(openStore()), { rows: 4, droppedRows: 0 });
  const rows = await sql`
    SELECT id, extract(epoch FROM time)::float8 * 1000 AS ms, service, duration_us::int AS us, request_bytes::int AS sent,
      host(peer_address) AS peer, request_id, user_id::int AS user, api_key_id AS key
    FROM request_logs WHERE instance_id = ${instanceId} ORDER BY time`;
  assert.deepEqual(
    rows.map((row) => Object.values(row)),
    [
      [ids[0], 1_794_000_000_000, "api.S", 30, null, null, null, null, null],
      [ids[1], 1_794_000_000_005, "api.S", 40, 7, "10.0.0.1", "r", 7, instanceId],
    ],
  );
  const others = await sql`
    SELECT peer_address FROM request_logs WHERE instance_id <> ${instanceId} AND service = 'api.S'`;
  assert.deepEqual(
    others.map(({ peer_address }) => peer_address),
    [null, null],
  );
  await assert.rejects(pack(), { code: "23514" });
});

test("a batch that is sent again, packed or not, is there once", async () => {
  const calls = sundry(await createKey());
  const write = createWriter(open());
  await write(packed(1, calls));
  await write(packed(1, calls));
  await write(batchOf(1, calls));
  await unpackAll(openStore());
  await write(packed(1, calls));
  const { rows, packed: left } = await counts();
  assert.deepEqual([rows, left], [calls.length, 0]);
});

test("several lay out at once, some are killed at it: each row is there once", async () => {
  const key = await createKey();
  const write = createWriter(open());
  const [batches, size] = [30, 1000];
  for (let number = 1; number <= batches; number++) {
    await write(
      packed(
        number,
        Array.from({ length: size }, () => callOf(key)),
      ),
    );
  }
  let killed = 0;
  let working = true;
  const killer = (async () => {
    while (working) {
      const victims = await sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%WITH taken AS MATERIALIZED%'
          AND state <> 'idle' AND pid <> pg_backend_pid() LIMIT 1`;
      if (killed < 5) killed += victims.length;
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (killed >= 5) return;
    }
  })();
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      const store = openStore();
      await until(
        async () => {
          await unpackAll(store).catch(() => {});
          return (await counts()).packed;
        },
        (left) => left === 0,
      );
    }),
  );
  working = false;
  await killer;
  assert.ok(killed > 0);
  const [found] = await sql`SELECT count(*)::int AS rows, count(DISTINCT id)::int AS ids FROM request_logs`;
  assert.deepEqual({ ...found }, { rows: batches * size, ids: batches * size });
  assert.deepEqual(await counts(), {
    rows: batches * size,
    packed: 0,
    counted: batches * size,
    rolled_up: batches * size,
  });
});

test("a row that Postgres refuses costs no other row", async () => {
  const key = await createKey();
  const calls = Array.from({ length: 37 }, (_, n) =>
    callOf(key, { ...(n === 11 && { peerAddress: "no address" }), requestId: `r ${n}` }),
  );
  await createWriter(open())(packed(1, calls));
  assert.deepEqual(await unpackAll(openStore()), { rows: 36, droppedRows: 1 });
  const found = await sql`SELECT id::text FROM request_logs ORDER BY id`;
  assert.deepEqual(
    found.map(({ id }) => id),
    calls.filter((_, n) => n !== 11).map(({ id }) => id),
  );
  assert.deepEqual(await counts(), { rows: 36, packed: 0, counted: 37, rolled_up: 37 });
});

test("what is packed is laid out into the days that it belongs to, of which some have no partition", async () => {
  const key = await createKey();
  const days = [0, 3, 400].map((ago) => Date.now() - ago * 86_400_000);
  await createWriter(open())(
    packed(
      1,
      days.map((startedAtMs) => callOf(key, { startedAtMs })),
    ),
  );
  await unpackAll(openStore());
  const found =
    await sql`SELECT (extract(epoch FROM time) * 1000)::float8 AS ms FROM request_logs ORDER BY time`;
  assert.deepEqual(
    found.map(({ ms }) => ms),
    days.toReversed(),
  );
});

test("what waits is told with its age, and nothing where nothing waits", async () => {
  const store = openStore();
  assert.deepEqual(await store.waiting(), { rows: 0, oldestMs: Infinity, newestMs: Infinity });
  const write = createWriter(open());
  const key = await createKey();
  for (const number of [1, 2]) await write(packed(number, [callOf(key), callOf(key)]));
  await sql`UPDATE request_log_packs SET committed_at = now() - interval '1 hour'
    WHERE id = (SELECT min(id) FROM request_log_packs)`;
  const { rows, oldestMs, newestMs } = await store.waiting();
  assert.equal(rows, 4);
  assert.ok(oldestMs >= 3_600_000 && oldestMs < 3_700_000, `${oldestMs}`);
  assert.ok(newestMs >= 0 && newestMs < 60_000, `${newestMs}`);
});

test("who tails the log is told how many rows of a packed batch are passed over", async () => {
  const tail = createTailStore(database(open()) as Database, uuidv7());
  await tail.renew();
  const seen = await tail.lastBatches();
  const write = createWriter(open());
  const key = await createKey();
  await write(batchOf(1, [callOf(key)]));
  await write(packed(2, [callOf(key), callOf(key)]));
  const batches = await tail.readBatches(seen);
  assert.deepEqual(
    batches.map(({ batch, rows }) => [batch, rows]),
    [
      [1, 1],
      [2, 2],
    ],
  );
  assert.equal((await tail.readRows(batches)).length, 1);
  await tail.release();
});
