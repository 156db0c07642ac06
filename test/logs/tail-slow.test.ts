/** Tails under trouble: a gRPC client that does not read, and a database that goes away. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import grpc from "@grpc/grpc-js";
import {
  TailRequestLogsRequestSchema,
  type TailRequestLogsResponse,
  TailRequestLogsResponseSchema,
} from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { openSql } from "../harness/postgres.ts";
import { secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const service = "tailed.Service";

/** A tail of grpc-js, which reads only while it is asked to. */
function openStream(server: TestServer) {
  const client = new grpc.Client(`127.0.0.1:${server.port}`, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set("x-api-key", secretKey);
  const stream = client.makeServerStreamRequest(
    "/latchkey.v1.RequestLogService/TailRequestLogs",
    (request: Uint8Array) => Buffer.from(request),
    (bytes) => fromBinary(TailRequestLogsResponseSchema, bytes),
    toBinary(TailRequestLogsRequestSchema, create(TailRequestLogsRequestSchema, { filter: { service } })),
    metadata,
  );
  const seen = {
    messages: 0,
    rows: 0,
    skipped: 0,
    ids: new Set<string>(),
    code: undefined as number | undefined,
  };
  stream.on("data", (message: TailRequestLogsResponse) => {
    seen.messages++;
    seen.rows += message.requestLogs.length;
    seen.skipped += Number(message.skipped);
    for (const { id } of message.requestLogs) seen.ids.add(id);
  });
  stream.on("error", (error: grpc.ServiceError) => {
    seen.code = error.code;
  });
  return {
    seen,
    stream,
    close() {
      stream.cancel();
      client.close();
    },
  };
}

/** Commits a batch as another instance would. */
async function commit(server: TestServer, batch: number, rows: number): Promise<void> {
  await server.sql`
    WITH logged AS (
      INSERT INTO request_logs (time, id, service, method, protocol, code, credential_kind, duration_us, request_id,
        instance_id, user_agent, error_message)
      SELECT now() + n * interval '1 microsecond', gen_random_uuid(), ${service}, 'M', 'grpc', 2, 'none', 1, 'r',
        gen_random_uuid(), repeat('u', 512), repeat('e', 512)
      FROM generate_series(1, ${rows}::int) n RETURNING time, id
    ) INSERT INTO request_log_tail (instance_id, batch, times, ids)
      SELECT '00000000-0000-7000-8000-000000000001', ${batch}::bigint, array_agg(time), array_agg(id) FROM logged`;
}

test("a gRPC client that does not read is told what it missed, and holds up nobody else", async (t) => {
  const server = await startServer();
  t.after(() => server.close());
  const fast = openStream(server);
  t.after(() => fast.close());
  const slow = openStream(server);
  t.after(() => slow.close());
  for (const { seen } of [fast, slow]) {
    await until(
      () => seen.messages,
      (messages) => messages === 1,
    );
  }
  slow.stream.pause();
  const batches = 20;
  const rows = 900;
  for (let batch = 1; batch <= batches; batch++) {
    await commit(server, batch, rows);
    await until(
      () => fast.seen.rows,
      (found) => found === batch * rows,
    );
  }
  assert.equal(fast.seen.skipped, 0);
  assert.equal(fast.seen.ids.size, batches * rows);
  slow.stream.resume();
  await until(
    () => slow.seen.rows + slow.seen.skipped,
    (total) => total === batches * rows,
  );
  assert.ok(slow.seen.skipped > 0);
  assert.equal(slow.seen.ids.size, slow.seen.rows);
  // It has caught up: what comes now, it gets.
  await commit(server, batches + 1, 10);
  const missed = slow.seen.skipped;
  await until(
    () => slow.seen.rows + missed,
    (total) => total === batches * rows + 10,
  );
  assert.equal(slow.seen.skipped, missed);
});

test("a tail goes on after the database was away, told to the log once, and misses nothing", async (t) => {
  // The caller stays known meanwhile: else its stream would end, as any other does.
  const server = await startServer({ cacheStaleIfErrorMs: 600_000 });
  t.after(() => server.close());
  const tail = openStream(server);
  t.after(() => tail.close());
  const { seen } = tail;
  await until(
    () => seen.messages,
    (messages) => messages === 1,
  );
  await commit(server, 1, 5);
  await until(
    () => seen.rows,
    (rows) => rows === 5,
  );
  const name = new URL(server.databaseUrl).pathname.slice(1);
  const admin = openSql(process.env.TEST_POSTGRES_URL ?? "");
  t.after(() => admin.end());
  const told = () =>
    server.logLines.filter(({ msg }) => /request log cannot be tailed/.test(String(msg))).length;
  await admin`ALTER DATABASE ${admin(name)} ALLOW_CONNECTIONS false`;
  await admin`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${name}`;
  await until(told, (lines) => lines === 1);
  await admin`ALTER DATABASE ${admin(name)} ALLOW_CONNECTIONS true`;
  await commit(server, 2, 7);
  await until(
    () => seen.rows,
    (rows) => rows === 12,
  );
  assert.deepEqual([seen.skipped, seen.code, told()], [0, undefined, 1]);
});
