/** Batches in real Postgres: each is all there, once. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import { createToken } from "../../src/auth/token.ts";
import { connect } from "../../src/db/client.ts";
import { bucketOf } from "../../src/usage/histogram.ts";
import type { WriteUsage } from "../../src/usage/store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import { batchOf, callOf, createWriter, insertKey, newId } from "./batches.ts";

let databaseUrl: string;
let sql: postgres.Sql;
const clients: postgres.Sql[] = [];
before(async () => {
  databaseUrl = await createTestDatabase();
  sql = openSql(databaseUrl);
});
after(() => Promise.all([sql, ...clients].map((client) => client.end())));

function openWriter(): WriteUsage {
  const client = connect({ url: databaseUrl }, { max: 1, purpose: "usage", statementTimeoutMs: 0 });
  clients.push(client);
  return createWriter(client);
}

const createKey = () => insertKey(sql);

async function stored(apiKeyId: string) {
  const [row] = await sql`SELECT request_count::int AS count, last_used_at,
    (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId}) AS rows
    FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
  return row;
}

test("a batch that is sent again, its answer lost, counts once", async () => {
  const write = openWriter();
  const key = await createKey();
  const one = batchOf(1, [callOf(key), callOf(key)]);
  await write(one);
  await write(one);
  await write(batchOf(2, [callOf(key)]));
  const { count, rows } = (await stored(key)) ?? {};
  assert.deepEqual({ count, rows }, { count: 3, rows: 3 });
});

test("last_used_at only moves forward", async () => {
  const write = openWriter();
  const key = await createKey();
  const late = Date.UTC(2026, 0, 2);
  await write(batchOf(1, [callOf(key, { startedAtMs: late })]));
  await write(batchOf(2, [callOf(key, { startedAtMs: late - 5000 })]));
  assert.equal((await stored(key))?.last_used_at.getTime(), late);
});

test("batches of several instances on the same keys neither deadlock nor lose a count", async () => {
  const keys = await Promise.all(Array.from({ length: 20 }, createKey));
  // Among many others, so that Postgres looks each up by its index, in the order in which it is given.
  await sql`INSERT INTO users (username, username_key) VALUES ('many', 'many')`;
  await sql`
    WITH made AS (
      INSERT INTO api_keys (id, user_id, name, type, hash, start)
      SELECT gen_random_uuid(), (SELECT id FROM users WHERE username = 'many'), 'k', 'service', n::text::bytea, 'lk_x'
      FROM generate_series(1, 20000) n RETURNING id
    ) INSERT INTO api_key_usage (api_key_id) SELECT id FROM made`;
  await sql`ANALYZE api_key_usage`;
  const writers = Array.from({ length: 4 }, openWriter);
  await Promise.all(
    writers.map(async (write, w) => {
      for (let number = 1; number <= 15; number++) {
        // Each in another order.
        const order = w % 2 === 0 ? keys : [...keys].reverse();
        await write(
          batchOf(
            number,
            order.map((key) => callOf(key)),
          ),
        );
      }
    }),
  );
  for (const key of keys) {
    const { count, rows } = (await stored(key)) ?? {};
    assert.deepEqual({ count, rows }, { count: 60, rows: 60 });
  }
});

test("rollups of a minute merge by adding, latencies bucket by bucket", async () => {
  const write = openWriter();
  const key = await createKey();
  const startedAtMs = Date.UTC(2026, 0, 1, 10, 30, 15);
  await write(
    batchOf(1, [
      callOf(key, { startedAtMs, durationUs: 50 }),
      callOf(key, { startedAtMs, durationUs: 9_000 }),
    ]),
  );
  await write(batchOf(2, [callOf(key, { startedAtMs: startedAtMs + 1000, durationUs: 50 })]));
  await write(batchOf(3, [callOf(key, { startedAtMs, code: Code.NotFound })]));
  const rows = await sql`SELECT period_s, bucket, code, requests::int, duration_us::int, request_bytes::int,
    response_bytes::int, latency FROM key_rollups WHERE api_key_id = ${key} ORDER BY period_s, code`;
  assert.deepEqual(
    rows.map(({ period_s, bucket, code, requests }) => [period_s, bucket.toISOString(), code, requests]),
    [
      [60, "2026-01-01T10:30:00.000Z", 0, 3],
      [60, "2026-01-01T10:30:00.000Z", 5, 1],
    ],
  );
  const latency = Array.from({ length: bucketOf(9_000) + 1 }, () => 0);
  latency[0] = 2;
  latency[bucketOf(9_000)] = 1;
  assert.deepEqual(rows[0]?.latency, latency);
  assert.deepEqual([rows[0]?.duration_us, rows[0]?.request_bytes, rows[0]?.response_bytes], [9_100, 3, 6]);
});

test("what a caller sends cannot break a batch, nor put a token into a row", async () => {
  const write = openWriter();
  const key = await createKey();
  const token = noteSecret(createToken("lk"));
  const userAgent = `odd "\\{},'\0 ${token} \ud800 ☃`;
  await write(
    batchOf(1, [callOf(key, { userAgent, errorMessage: `bad ${token}\0`, peerAddress: "2001:db8::1" })]),
  );
  const [row] =
    await sql`SELECT user_agent, error_message, peer_address FROM request_logs WHERE api_key_id = ${key}`;
  assert.equal(row?.user_agent, `odd "\\{},' lk_[redacted] \ufffd ☃`);
  assert.equal(row?.error_message, "bad lk_[redacted]");
  assert.equal(row?.peer_address, "2001:db8::1");
});

test("each row says all of its own call, whatever others of its batch share with it", async () => {
  const [key, other] = [await createKey(), await createKey()];
  const one = callOf(key, { userAgent: "a b", errorMessage: "c" }, 7n);
  const verdict = {
    denial: undefined,
    principal: undefined,
    subject: undefined,
    credentialKind: "none",
  } as const;
  const calls = [
    one,
    callOf(key, { userAgent: "a", errorMessage: "b c", durationUs: 5 }, 7n),
    callOf(other, { requestId: "given", traceId: "0af7651916cd43dd8448eb211c80319c" }, 8n),
    callOf(key, {
      verdict: { ...verdict, credentialKind: "session", subject: { userId: 7n, apiKeyId: undefined } },
    }),
    callOf(key, {
      verdict: { ...verdict, denial: "MISSING" },
      code: Code.Unauthenticated,
      protocol: "connect",
    }),
    callOf(key, { verdict: undefined, requestBytes: undefined, peerAddress: "2001:db8::1" }),
    callOf(
      key,
      { responseBytes: undefined, requestBytes: 0, peerAddress: "192.0.2.1", userAgent: "a b" },
      7n,
    ),
    { ...one, ...newId(), method: { service: "other.Service", name: "GetUser" } },
  ];
  await openWriter()(batchOf(1, calls));
  for (const call of calls) {
    const [row] = await sql`SELECT time, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
      error_message, trace_id FROM request_logs WHERE id = ${call.id}`;
    const subject = call.verdict?.subject;
    assert.deepEqual(
      { ...row },
      {
        time: new Date(call.startedAtMs),
        service: call.method.service,
        method: call.method.name,
        protocol: call.protocol,
        code: call.code,
        denial_reason: call.verdict?.denial ?? null,
        user_id: subject?.userId.toString() ?? null,
        api_key_id: subject?.apiKeyId ?? null,
        credential_kind: call.verdict?.credentialKind ?? "none",
        duration_us: String(call.durationUs),
        request_bytes: call.requestBytes?.toString() ?? null,
        response_bytes: call.responseBytes?.toString() ?? null,
        peer_address: call.peerAddress ?? null,
        user_agent: call.userAgent,
        request_id: call.requestId === call.id ? null : call.requestId,
        error_message: call.errorMessage ?? null,
        trace_id: call.traceId ?? null,
      },
    );
  }
});

test("calls of a key that is gone are logged, and stop nothing", async () => {
  const write = openWriter();
  const gone = uuidv7();
  const key = await createKey();
  await write(batchOf(1, [callOf(gone), callOf(key)]));
  assert.equal((await stored(key))?.count, 1);
  const [logged] = await sql`SELECT count(*)::int AS n FROM request_logs WHERE api_key_id = ${gone}`;
  assert.equal(logged?.n, 1);
});
