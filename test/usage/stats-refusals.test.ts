/** What latchkey.v1.StatsService refuses, and what it tells of it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  GetBreakdownRequestSchema,
  GetOverviewRequestSchema,
  GetTimeSeriesRequestSchema,
  StatsDimension,
} from "../../src/gen/latchkey/v1/stats_service_pb.js";
import { dayMs, floorTo, hourMs, minuteMs } from "../../src/usage/range.ts";
import { startServer, type TestServer } from "../harness/server.ts";

const origin = floorTo(dayMs, Date.now()) - 10 * dayMs;
const at = (hours: number, minutes = 0) => origin + hours * hourMs + minutes * minuteMs;
const range = (startMs: number, endMs: number) => ({
  startTime: timestampFromMs(startMs),
  endTime: timestampFromMs(endMs),
});
const firstHour = range(at(0), at(1));

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey.close());

const overview = (request: MessageInitShape<typeof GetOverviewRequestSchema>) =>
  latchkey.asStaff.stats.getOverview(create(GetOverviewRequestSchema, { ...firstHour, ...request }));
const series = (request: MessageInitShape<typeof GetTimeSeriesRequestSchema>) =>
  latchkey.asStaff.stats.getTimeSeries(create(GetTimeSeriesRequestSchema, { ...firstHour, ...request }));
const breakdown = (request: MessageInitShape<typeof GetBreakdownRequestSchema>) =>
  latchkey.asStaff.stats.getBreakdown(create(GetBreakdownRequestSchema, { ...firstHour, ...request }));

for (const [what, request, message] of [
  ["a range without a start", { startTime: undefined }, /start_time and end_time/],
  ["a range without an end", { endTime: undefined }, /start_time and end_time/],
  ["a range that ends before it starts", range(at(1), at(0)), /end_time must not be before/],
  ["a range of more than 400 days", range(at(0), at(400 * 24) + 1), /400 days/],
  ["a range before 1970", range(-1, at(0)), /1970/],
  ["a range that never ends", range(at(0), Date.UTC(9999, 11, 31)), /9990/],
  ["an unknown code", { filter: { code: "OK" } }, /code/],
  ["a code that every object has", { filter: { code: "constructor" } }, /code/],
  ["a key that is no UUID", { filter: { apiKeyId: "1" } }, /api_key_id/],
  ["a negative user", { filter: { userId: -1n } }, /user_id/],
  ["a service with NUL", { filter: { service: "\0" } }, /service/],
] as const) {
  test(`every method refuses ${what}`, async () => {
    const error = { code: Code.InvalidArgument, rawMessage: message };
    await assert.rejects(overview(request), error);
    await assert.rejects(series(request), error);
    await assert.rejects(breakdown({ ...request, groupBy: StatsDimension.SERVICE }), error);
  });
}

for (const [what, request, message] of [
  ["a step of seconds", { step: { seconds: 90n } }, /step must be whole minutes/],
  ["a step with a part of a second", { step: { seconds: 60n, nanos: 1 } }, /step must be whole minutes/],
  ["a step of nothing", { step: {} }, /step must be whole minutes/],
  ["a negative step", { step: { seconds: -60n } }, /step must be whole minutes/],
  ["a step of years", { step: { seconds: 86_400n * 401n } }, /400 days/],
  ["too many steps", { ...range(at(0), at(0, 2001)), step: { seconds: 60n } }, /at most 2000/],
  [
    "too many points",
    { ...range(at(0), at(0, 201)), step: { seconds: 60n }, groupBy: StatsDimension.METHOD, limit: 100 },
    /100 series of 201 steps .* longer step or a lower limit/,
  ],
  ["many days of minutes", { ...range(at(0), at(72, 5)), step: { seconds: 300n } }, /whole hours .* 3 days/],
  ["a series of keys", { groupBy: StatsDimension.KEY }, /filter.api_key_id/],
  ["a series of users", { groupBy: StatsDimension.USER }, /filter.user_id/],
  ["an unknown dimension", { groupBy: 99 as StatsDimension }, /group_by/],
  ["a negative limit", { groupBy: StatsDimension.CODE, limit: -1 }, /limit/],
] as const) {
  test(`GetTimeSeries refuses ${what}`, async () => {
    await assert.rejects(series(request), { code: Code.InvalidArgument, rawMessage: message });
  });
}

test("GetTimeSeries takes 2,000 steps, and as many for ten methods", async () => {
  const ten = { groupBy: StatsDimension.METHOD, limit: 10 };
  await series({ ...range(at(0), at(0, 2000)), step: { seconds: 60n }, ...ten });
  assert.equal((await series({ ...range(at(0), at(0, 2000)), step: { seconds: 60n } })).times.length, 2000);
});

test("GetTimeSeries takes three days of minutes", async () => {
  assert.equal((await series({ ...range(at(0), at(72)), step: { seconds: 300n } })).times.length, 864);
});

for (const [what, request, message] of [
  ["no dimension", {}, /group_by must be set/],
  ["an unknown dimension", { groupBy: 99 as StatsDimension }, /group_by/],
  ["a negative limit", { groupBy: StatsDimension.KEY, limit: -1 }, /limit/],
] as const) {
  test(`GetBreakdown refuses ${what}`, async () => {
    await assert.rejects(breakdown(request), { code: Code.InvalidArgument, rawMessage: message });
  });
}
