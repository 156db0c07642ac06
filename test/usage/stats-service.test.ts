/** latchkey.v1.StatsService over RPC: who sees what, how it is divided, and what is refused. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import type { EndedCall } from "../../src/auth/call.ts";
import { connect } from "../../src/db/client.ts";
import {
  GetBreakdownRequestSchema,
  GetOverviewRequestSchema,
  GetTimeSeriesRequestSchema,
  StatsDimension,
} from "../../src/gen/latchkey/v1/stats_service_pb.js";
import { DenialReason } from "../../src/gen/latchkey/v1/verdict_pb.js";
import { dayMs, floorTo, hourMs, minuteMs } from "../../src/usage/range.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { batchOf, callOf, createWriter, newId } from "./batches.ts";

/** Where no server has written anything. */
const origin = floorTo(dayMs, Date.now()) - 10 * dayMs;
const at = (hours: number, minutes = 0) => origin + hours * hourMs + minutes * minuteMs;
const range = (startMs: number, endMs: number) => ({
  startTime: timestampFromMs(startMs),
  endTime: timestampFromMs(endMs),
});
const firstHour = range(at(0), at(1));

let latchkey: TestServer;
let staff: Clients;
let ada: Awaited<ReturnType<typeof createUserAndKey>>;
let bob: typeof ada;
let client: postgres.Sql;
before(async () => {
  latchkey = await startServer();
  staff = latchkey.asStaff;
  ada = await createUserAndKey(staff, "ada");
  bob = await createUserAndKey(staff, "bob");
  client = connect({ url: latchkey.databaseUrl }, { max: 1, purpose: "usage", statementTimeoutMs: 0 });
  const write = createWriter(client);
  const of = ({ apiKeyId, userId }: typeof ada, change: Partial<EndedCall>) =>
    callOf(apiKeyId, change, userId);
  const refused = callOf(bob.apiKeyId, { code: Code.Unauthenticated, startedAtMs: at(0, 5) }, bob.userId);
  const { principal: _, ...verdict } = refused.verdict ?? assert.fail();
  const nobody = { denial: "MISSING", credentialKind: "none" } as const;
  await write(
    batchOf(1, [
      of(ada, { startedAtMs: at(0, 1), durationUs: 1000 }),
      of(ada, { startedAtMs: at(0, 1), durationUs: 3000 }),
      of(ada, { startedAtMs: at(0, 2), code: Code.NotFound, durationUs: 2000 }),
      of(ada, { startedAtMs: at(0, 2), method: { service: "other.Service", name: "Do" } as never }),
      of(bob, { startedAtMs: at(0, 3) }),
      { ...refused, verdict: { ...verdict, denial: "REVOKED" } as never },
      { ...refused, ...newId(), verdict: nobody as never },
      of(bob, { startedAtMs: at(1) }),
    ]),
  );
});
after(async () => {
  await client.end();
  await latchkey.close();
});

const overview = (request: MessageInitShape<typeof GetOverviewRequestSchema>, clients = staff) =>
  clients.stats.getOverview(create(GetOverviewRequestSchema, { ...firstHour, ...request }));
const series = (request: MessageInitShape<typeof GetTimeSeriesRequestSchema>, clients = staff) =>
  clients.stats.getTimeSeries(create(GetTimeSeriesRequestSchema, { ...firstHour, ...request }));
const breakdown = (request: MessageInitShape<typeof GetBreakdownRequestSchema>, clients = staff) =>
  clients.stats.getBreakdown(create(GetBreakdownRequestSchema, { ...firstHour, ...request }));

test("an overview tells requests, errors, denials, bytes and durations, widened to whole minutes", async () => {
  const { stats, startTime, endTime, percentileError } = await overview(range(at(0) + 1, at(0, 59) + 1));
  assert.ok(stats && startTime && endTime);
  const { requests, errors, denials, errorRate, requestBytes, responseBytes } = stats;
  assert.deepEqual([requests, errors, denials, errorRate], [7n, 3n, 2n, 3 / 7]);
  assert.deepEqual([requestBytes, responseBytes], [7n, 14n]);
  assert.deepEqual([timestampDate(startTime).getTime(), timestampDate(endTime).getTime()], [at(0), at(1)]);
  // 1, 1, 1, 1, 1, 2 and 3 ms.
  assert.deepEqual([stats.meanDuration?.seconds, stats.meanDuration?.nanos], [0n, 1_428_571]);
  assert.ok(percentileError > 0.09 && percentileError < 0.1);
  for (const [told, exact] of [
    [stats.p50, 1_000_000],
    [stats.p95, 3_000_000],
    [stats.p99, 3_000_000],
  ] as const) {
    assert.ok(told !== undefined && Math.abs(told.nanos - exact) <= percentileError * exact);
  }
});

test("an overview of nothing is zeros, without percentiles", async () => {
  for (const request of [range(at(5), at(6)), range(at(0), at(0)), { filter: { service: "no.such" } }]) {
    const { stats } = await overview(request);
    assert.deepEqual([stats?.requests, stats?.errorRate, stats?.p50], [0n, 0, undefined]);
  }
});

test("each filter lets through what it names, alone and together", async () => {
  for (const [filter, expected] of [
    [{ userId: ada.userId }, 4n],
    [{ apiKeyId: bob.apiKeyId.toUpperCase() }, 2n],
    [{ apiKeyId: uuidv7() }, 0n],
    [{ service: "other.Service" }, 1n],
    [{ method: "GetUser" }, 6n],
    [{ code: "ok" }, 4n],
    [{ code: "unauthenticated" }, 2n],
    [{ userId: ada.userId, apiKeyId: bob.apiKeyId }, 0n],
    [{ userId: ada.userId, method: "GetUser", code: "not_found" }, 1n],
  ] as const) {
    const { stats } = await overview({ filter });
    assert.equal(stats?.requests, expected, Object.keys(filter).join());
  }
});

test("a breakdown divides by each dimension, the most requests first", async () => {
  const divide = async (groupBy: StatsDimension, filter = {}) => {
    const { groups, complete } = await breakdown({ groupBy, filter });
    assert.equal(complete, true);
    return groups.map(({ group, stats }) => {
      const { $typeName: _, $unknown: __, ...values } = group ?? assert.fail();
      return [
        ...Object.values(values).filter((value) => value !== "" && value !== 0 && value !== 0n),
        stats?.requests,
      ];
    });
  };
  const service = "api.users.UserService";
  assert.deepEqual(await divide(StatsDimension.SERVICE), [
    [service, 6n],
    ["other.Service", 1n],
  ]);
  assert.deepEqual(await divide(StatsDimension.METHOD), [
    [service, "GetUser", 6n],
    ["other.Service", "Do", 1n],
  ]);
  assert.deepEqual(await divide(StatsDimension.CODE), [
    ["ok", 4n],
    ["unauthenticated", 2n],
    ["not_found", 1n],
  ]);
  assert.deepEqual(await divide(StatsDimension.DENIAL_REASON), [
    [5n],
    [DenialReason.MISSING, 1n],
    [DenialReason.REVOKED, 1n],
  ]);
  // Who named nobody is of no key and no user.
  assert.deepEqual(await divide(StatsDimension.KEY), [
    [ada.apiKeyId, 4n],
    [bob.apiKeyId, 2n],
  ]);
  assert.deepEqual(await divide(StatsDimension.USER), [
    [ada.userId, 4n],
    [bob.userId, 2n],
  ]);
  assert.deepEqual(await divide(StatsDimension.KEY, { userId: bob.userId }), [[bob.apiKeyId, 2n]]);
  assert.deepEqual(await divide(StatsDimension.USER, { apiKeyId: ada.apiKeyId }), [[ada.userId, 4n]]);
  assert.deepEqual(await divide(StatsDimension.CODE, { userId: ada.userId }), [
    ["ok", 3n],
    ["not_found", 1n],
  ]);
  const { groups } = await breakdown({ groupBy: StatsDimension.CODE, limit: 1 });
  assert.deepEqual(
    groups.map(({ group }) => group?.code),
    ["ok"],
  );
});

test("of more than six hours, keys and users are of whole hours", async () => {
  const times = range(at(0, 1), at(6, 2));
  const { groups, startTime, endTime } = await breakdown({ groupBy: StatsDimension.KEY, ...times });
  assert.ok(startTime && endTime);
  assert.deepEqual([timestampDate(startTime).getTime(), timestampDate(endTime).getTime()], [at(0), at(7)]);
  assert.deepEqual(
    groups.map(({ stats }) => stats?.requests),
    [4n, 3n],
  );
  const byCode = await breakdown({ groupBy: StatsDimension.CODE, ...times });
  assert.deepEqual(byCode.startTime, times.startTime);
});

test("a time series has a point for each step, zeros included, and a series for each group", async () => {
  const counts = (points: readonly { requests: bigint }[]) => points.map(({ requests }) => Number(requests));
  const whole = await series({ step: { seconds: 60n } });
  assert.equal(whole.times.length, 60);
  assert.deepEqual(
    whole.times.map((time) => timestampDate(time).getTime()),
    Array.from({ length: 60 }, (_, i) => at(0, i)),
  );
  assert.equal(whole.series.length, 1);
  assert.deepEqual(counts(whole.series[0]?.points ?? []), [0, 2, 2, 1, 0, 2, ...Array(54).fill(0)]);

  const byCode = await series({ step: { seconds: 1800n }, groupBy: StatsDimension.CODE });
  assert.deepEqual(
    byCode.series.map(({ group, points }) => [group?.code, ...counts(points)]),
    [
      ["ok", 4, 0],
      ["unauthenticated", 2, 0],
      ["not_found", 1, 0],
    ],
  );
  const busiest = await series({ step: { seconds: 1800n }, groupBy: StatsDimension.METHOD, limit: 1 });
  assert.deepEqual(
    busiest.series.map(({ group, points }) => [group?.service, group?.method, ...counts(points)]),
    [["api.users.UserService", "GetUser", 6, 0]],
  );
  const nothing = await series({ filter: { service: "no.such" }, step: { seconds: 1800n } });
  assert.deepEqual(
    nothing.series.map(({ points }) => counts(points)),
    [[0, 0]],
  );
});

test("steps begin at multiples of their length since 1970, the first one holding the start", async () => {
  const { times, series: found } = await series({ step: { seconds: 7200n }, ...range(at(1), at(5)) });
  assert.deepEqual(
    times.map((time) => timestampDate(time).getTime()),
    [at(0), at(2), at(4)],
  );
  assert.deepEqual(
    found[0]?.points.map(({ requests }) => requests),
    [8n, 0n, 0n],
  );
});

test("an unset step is the shortest that makes at most 200 steps", async () => {
  for (const [hours, seconds, count] of [
    [3, 60, 180],
    [4, 300, 48],
    [24, 900, 96],
    [3 * 24, 3600, 72],
    [9 * 24, 6 * 3600, 36],
    [100 * 24, 86_400, 100],
    [300 * 24, 86_400, 300],
  ] as const) {
    const end = hours > 240 ? at(240) : at(hours);
    const { step, times } = await series(range(end - hours * hourMs, end));
    assert.deepEqual([Number(step?.seconds), times.length], [seconds, count], `${hours} hours`);
  }
});

test("where minutes are no longer kept, a range is widened to whole hours", async () => {
  const start = floorTo(hourMs, Date.now()) - 40 * dayMs;
  const times = range(start + minuteMs, start + 2 * minuteMs);
  const { startTime, endTime } = await overview(times);
  assert.ok(startTime && endTime);
  assert.deepEqual(
    [timestampDate(startTime).getTime(), timestampDate(endTime).getTime()],
    [start, start + hourMs],
  );
  assert.deepEqual((await series(times)).step?.seconds, 3600n);
  await assert.rejects(series({ ...times, step: { seconds: 1800n } }), {
    code: Code.InvalidArgument,
    rawMessage: /step must be whole hours/,
  });
});

test("a user sees its own alone, whatever it asks for; another's is denied by name", async () => {
  const asAda = latchkey.as(ada.token);
  assert.equal((await overview({}, asAda)).stats?.requests, 4n);
  assert.equal((await overview({ filter: { userId: ada.userId } }, asAda)).stats?.requests, 4n);
  assert.equal((await overview({ filter: { apiKeyId: bob.apiKeyId } }, asAda)).stats?.requests, 0n);
  const { groups } = await breakdown({ groupBy: StatsDimension.USER, ...range(at(0), at(24)) }, asAda);
  assert.deepEqual(
    groups.map(({ group }) => group?.userId),
    [ada.userId],
  );
  const own = await series({ step: { seconds: 3600n } }, asAda);
  assert.equal(own.series[0]?.points[0]?.requests, 4n);
  const filter = { userId: bob.userId };
  const code = Code.PermissionDenied;
  await assert.rejects(overview({ filter }, asAda), { code });
  await assert.rejects(series({ filter }, asAda), { code });
  await assert.rejects(breakdown({ filter, groupBy: StatsDimension.KEY }, asAda), { code });
});

test("anonymous callers and keys that may not call it are refused by every method", async () => {
  const anonymous = clientsOf(connectTransport(latchkey.url, undefined));
  const restricted = await createUserAndKey(staff, "restricted");
  await latchkey.sql`UPDATE api_keys SET allowed_methods = '{api.users.UserService/*}' WHERE id = ${restricted.apiKeyId}`;
  for (const [clients, code] of [
    [anonymous, Code.Unauthenticated],
    [latchkey.as(restricted.token), Code.PermissionDenied],
  ] as const) {
    await assert.rejects(overview({}, clients), { code });
    await assert.rejects(series({}, clients), { code });
    await assert.rejects(breakdown({ groupBy: StatsDimension.CODE }, clients), { code });
  }
});
