/** Statistics against the request log: real calls over two instances, and the same numbers once they are folded. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type postgres from "postgres";
import { connect, database } from "../../src/db/client.ts";
import {
  GetBreakdownRequestSchema,
  GetTimeSeriesRequestSchema,
  type Stats,
  StatsDimension,
} from "../../src/gen/latchkey/v1/stats_service_pb.js";
import { foldRollups } from "../../src/usage/fold.ts";
import { dayMs, floorTo, hourMs } from "../../src/usage/range.ts";
import { createTestDatabase } from "../harness/postgres.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { batchOf, callOf, createWriter } from "./batches.ts";

let servers: TestServer[];
let client: postgres.Sql;
before(async () => {
  const databaseUrl = await createTestDatabase();
  servers = [await startServer({ databaseUrl }), await startServer({ databaseUrl })];
  client = connect({ url: databaseUrl }, { max: 1, purpose: "fold", statementTimeoutMs: 0 });
});
after(async () => {
  await client.end();
  for (const server of servers) await server.close();
});

const [startMs, endMs] = [floorTo(dayMs, Date.now()) - 3 * dayMs, floorTo(dayMs, Date.now()) + 2 * dayMs];
const range = { startTime: timestampFromMs(startMs), endTime: timestampFromMs(endMs) };

/** What the log says of the rows that a filter lets through. */
async function logged(sql: postgres.Sql, filter: { apiKeyId?: string; userId?: bigint }) {
  const [row] = await sql`
    SELECT count(*) AS requests, count(*) FILTER (WHERE code <> 0) AS errors, count(denial_reason) AS denials,
      coalesce(sum(request_bytes), 0) AS "requestBytes", coalesce(sum(response_bytes), 0) AS "responseBytes",
      sum(duration_us) AS us, percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_us) AS percentiles
    FROM request_logs WHERE time >= ${new Date(startMs)} AND time < ${new Date(endMs)}
      AND (${filter.apiKeyId ?? null}::uuid IS NULL OR api_key_id = ${filter.apiKeyId ?? null})
      AND (${String(filter.userId ?? 0)}::bigint = 0 OR user_id = ${String(filter.userId ?? 0)})`;
  return row ?? assert.fail();
}

function assertSame(stats: Stats | undefined, row: postgres.Row, error: number) {
  assert.ok(stats);
  for (const field of ["requests", "errors", "denials", "requestBytes", "responseBytes"] as const) {
    assert.equal(stats[field], BigInt(row[field]), field);
  }
  const us = (of: { seconds: bigint; nanos: number } | undefined) =>
    Number(of?.seconds) * 1e6 + (of?.nanos ?? 0) / 1e3;
  assert.ok(Math.abs(us(stats.meanDuration) - Number(row.us) / Number(row.requests)) < 0.001);
  for (const [i, told] of [stats.p50, stats.p95, stats.p99].entries()) {
    const exact = Number(row.percentiles[i]);
    assert.ok(Math.abs(us(told) - exact) <= Math.max(100, error * exact), `${us(told)} for ${exact}`);
  }
}

test("sums equal the log's rows, refused calls included: before they are folded, after, and when more comes late", async () => {
  const [one, two] = servers as [TestServer, TestServer];
  const ada = await createUserAndKey(one.asStaff, "ada");
  const bob = await createUserAndKey(one.asStaff, "bob");
  await one.asStaff.keys.revokeApiKey({ id: bob.apiKeyId });
  const calls = Array.from({ length: 120 }, (_, i) => {
    const { url } = i % 2 === 0 ? one : two;
    const token = i % 5 === 0 ? bob.token : i % 7 === 0 ? undefined : ada.token;
    const { users } = clientsOf(connectTransport(url, token));
    return i % 3 === 0
      ? users.updateProfile({ bio: "x" })
      : users.getUser({ userId: i % 4 === 0 ? 999_999n : ada.userId });
  });
  const answers = await Promise.allSettled(calls);
  assert.ok(answers.filter(({ status }) => status === "rejected").length > 40);

  const counted = (filter: { apiKeyId?: string; userId?: bigint } = {}) =>
    two.asStaff.stats.getOverview({ ...range, filter } as never);
  await until(
    () => one.sql`SELECT FROM request_logs WHERE method IN ('GetUser', 'UpdateProfile')`,
    (rows) => rows.length === 120,
  );
  const filters = [{}, { apiKeyId: ada.apiKeyId }, { apiKeyId: bob.apiKeyId }, { userId: bob.userId }];
  const assertAll = async () => {
    // These are answered before their own row is there: none of what is compared may come from them.
    const rows = await Promise.all(filters.slice(1).map((filter) => logged(one.sql, filter)));
    for (const [i, row] of rows.entries()) {
      const { stats, percentileError } = await counted(filters[i + 1]);
      assertSame(stats, row, percentileError);
    }
    const sums = await two.asStaff.stats.getBreakdown(
      create(GetBreakdownRequestSchema, {
        ...range,
        groupBy: StatsDimension.METHOD,
        filter: { service: "api.users.UserService" },
      }),
    );
    const byMethod = await one.sql`SELECT method, count(*)::int AS n FROM request_logs
      WHERE service = 'api.users.UserService' AND time >= ${new Date(startMs)} GROUP BY method ORDER BY n DESC`;
    assert.deepEqual(
      sums.groups.map(({ group, stats }) => [group?.method, Number(stats?.requests)]),
      byMethod.map(({ method, n }) => [method, n]),
    );
    const series = await two.asStaff.stats.getTimeSeries(
      create(GetTimeSeriesRequestSchema, {
        ...range,
        filter: { apiKeyId: ada.apiKeyId },
        step: { seconds: 86_400n },
        groupBy: StatsDimension.DENIAL_REASON,
      }),
    );
    const points = series.series.flatMap((line) => line.points);
    assert.equal(
      points.reduce((sum, { requests }) => sum + Number(requests), 0),
      Number(rows[0]?.requests),
    );
    return rows.map(({ requests }) => Number(requests));
  };
  const [ofAda, ofBob] = await assertAll();
  assert.ok((ofAda ?? 0) > 50);
  assert.equal(ofBob, 24);

  // As if the day were over: none of these calls is being made any more.
  const db = database(client);
  const tomorrow = new Date(floorTo(hourMs, endMs));
  await foldRollups(db, { now: tomorrow });
  const [folded] = await one.sql`SELECT count(*)::int AS n FROM key_rollups WHERE period_s = 86400`;
  assert.ok(folded?.n > 0);
  // They are read, and the minutes of them are not.
  await one.sql`UPDATE key_rollups SET requests = requests + 1000 WHERE period_s = 60`;
  await one.sql`UPDATE method_rollups SET requests = requests + 1000 WHERE period_s = 60`;
  await assertAll();

  const late = [1, 2, 3].map((n) =>
    callOf(ada.apiKeyId, { startedAtMs: startMs + n * 7 * hourMs, durationUs: n * 1000 }, ada.userId),
  );
  await createWriter(client)(batchOf(1, late));
  const [withLate] = await assertAll();
  assert.equal(withLate, (ofAda ?? 0) + 3);
  await foldRollups(db, { now: tomorrow });
  assert.deepEqual((await assertAll())[0], withLate);
});
