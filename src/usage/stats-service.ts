/** `latchkey.v1.StatsService`. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { requireUser } from "../auth/principal.ts";
import type { StatsGroupSchema, StatsSchema, StatsService } from "../gen/latchkey/v1/stats_service_pb.js";
import { DenialReason } from "../gen/latchkey/v1/verdict_pb.js";
import { codeName } from "../rpc/code-name.ts";
import { invalid } from "../rpc/validate.ts";
import { readsTops } from "./busiest.ts";
import { percentile, percentileError } from "./histogram.ts";
import { hourMs, type TimeRange, widen } from "./range.ts";
import { checkPoints, readDimension, readFilter, readLimit, readRange, readSteps } from "./stats-request.ts";
import type { GroupValues, StatsStore, Sums } from "./stats-store.ts";
import { noKey } from "./totals.ts";

export function createStatsService(stats: StatsStore): ServiceImpl<typeof StatsService> {
  return {
    async getOverview(request, context) {
      const filter = readFilter(request.filter, requireUser(context));
      const range = readRange(request, Date.now());
      const sums = await stats.overview(filter, range);
      return { stats: toStats(sums), ...toTimes(range), percentileError };
    },

    async getTimeSeries(request, context) {
      const filter = readFilter(request.filter, requireUser(context));
      const nowMs = Date.now();
      const { stepMs, range } = readSteps(request.step, readRange(request, nowMs), nowMs);
      const by = readDimension(request.groupBy);
      if (by === "key" || by === "user") {
        const field = by === "key" ? "api_key_id" : "user_id";
        throw invalid(`group_by must not be ${by.toUpperCase()}: ask for each by filter.${field} instead`);
      }
      const limit = readLimit(request.limit);
      if (by !== undefined) checkPoints(limit, (range.endMs - range.startMs) / stepMs);
      const found = await stats.timeSeries(filter, range, { stepMs, by, limit });
      const series = by === undefined && found.length === 0 ? [{ values: {}, steps: new Map() }] : found;
      const times = Array.from(
        { length: (range.endMs - range.startMs) / stepMs },
        (_, i) => range.startMs + i * stepMs,
      );
      return {
        series: series.map(({ values, steps }) => ({
          group: toGroup(values),
          points: times.map((time) => toStats(steps.get(time))),
        })),
        times: times.map(timestampFromMs),
        step: { seconds: BigInt(stepMs / 1000), nanos: 0 },
        percentileError,
      };
    },

    async getBreakdown(request, context) {
      const filter = readFilter(request.filter, requireUser(context));
      const asked = readRange(request, Date.now());
      const by = readDimension(request.groupBy);
      if (by === undefined) throw invalid("group_by must be set: what to sum up by");
      const byTops = (by === "key" || by === "user") && readsTops(filter, asked);
      const range = byTops ? widen(asked, hourMs) : asked;
      const { groups, complete } = await stats.breakdown(filter, range, {
        by,
        limit: readLimit(request.limit),
      });
      return {
        groups: groups.map(({ values, sums }) => ({ group: toGroup(values), stats: toStats(sums) })),
        complete,
        ...toTimes(range),
        percentileError,
      };
    },
  };
}

function toTimes({ startMs, endMs }: TimeRange) {
  return { startTime: timestampFromMs(startMs), endTime: timestampFromMs(endMs) };
}

function toStats(sums: Sums | undefined): MessageInitShape<typeof StatsSchema> {
  if (sums === undefined) return {};
  const { requests, errors, denials, requestBytes, responseBytes, latency } = sums;
  const [p50, p95, p99] = [50, 95, 99].map((percent) => percentile(latency, percent));
  return {
    requests,
    errors,
    denials,
    errorRate: Number(errors) / Number(requests),
    meanDuration: microseconds(Number(sums.durationUs) / Number(requests)),
    ...(p50 !== undefined && { p50: microseconds(p50) }),
    ...(p95 !== undefined && { p95: microseconds(p95) }),
    ...(p99 !== undefined && { p99: microseconds(p99) }),
    requestBytes,
    responseBytes,
  };
}

/** To the nanosecond. */
function microseconds(us: number): Pick<Duration, "seconds" | "nanos"> {
  const nanos = Math.round(us * 1000);
  return { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 };
}

function toGroup(values: GroupValues): MessageInitShape<typeof StatsGroupSchema> {
  const { service, method, code, denialReason, apiKeyId, userId } = values;
  return {
    ...(service !== undefined && { service }),
    ...(method !== undefined && { method }),
    ...(code !== undefined && { code: codeName(code) }),
    ...(denialReason !== undefined && { denialReason: denialReasonOf(denialReason) }),
    ...(apiKeyId !== undefined && { apiKeyId: apiKeyId === noKey ? "" : apiKeyId }),
    ...(userId !== undefined && { userId }),
  };
}

/** Unspecified for none, and for one of a newer version. */
function denialReasonOf(name: string): DenialReason {
  return DenialReason[name as keyof typeof DenialReason] ?? DenialReason.UNSPECIFIED;
}
