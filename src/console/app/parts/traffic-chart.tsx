/** Requests, errors and denials, and latency, over a range. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { useMemo } from "react";
import { type StatsFilterSchema, StatsService } from "../../../gen/latchkey/v1/stats_service_pb.js";
import { Chart } from "./chart/chart.tsx";
import { durationMs, formatCompact, formatMs } from "./format.ts";
import { QueryError } from "./query-error.tsx";
import { type Range, rangeWords } from "./range.ts";
import { useRanged } from "./use-ranged.ts";

type Filter = MessageInitShape<typeof StatsFilterSchema>;

interface TrafficChartProps {
  readonly filter?: Filter;
  readonly range: Range;
  readonly show: "requests" | "latency";
  readonly height?: number;
  /** Of whom, for screen readers. */
  readonly of?: string;
  /** What the scale reaches at least, for charts that are compared. */
  readonly top?: number;
}

function useSeries(range: Range, filter: Filter | undefined) {
  return useRanged(StatsService.method.getTimeSeries, range, filter === undefined ? {} : { filter });
}

/** The highest point of a key's requests, as its chart shows them; 0 while they load. */
export function useMostRequests(range: Range, apiKeyId: string): number {
  const { data } = useSeries(range, { apiKeyId });
  return Math.max(0, ...(data?.series[0]?.points ?? []).map(({ requests }) => Number(requests)));
}

export function TrafficChart({ filter, range, show, height, of, top }: TrafficChartProps) {
  const { data, error, refetch } = useSeries(range, filter);
  const { times, lines } = useMemo(() => {
    const points = data?.series[0]?.points ?? [];
    const ms = (of: "p50" | "p95" | "p99") =>
      points.map((point) => (point[of] === undefined ? null : durationMs(point[of])));
    return {
      times: data?.times.map((time) => timestampMs(time) / 1_000),
      lines:
        show === "requests"
          ? [
              {
                label: "Requests",
                color: "--chart-1",
                area: true,
                values: points.map((p) => Number(p.requests)),
              },
              { label: "Errors", color: "--chart-2", values: points.map((p) => Number(p.errors)) },
              { label: "Denials", color: "--chart-3", values: points.map((p) => Number(p.denials)) },
            ]
          : [
              { label: "p50", color: "--chart-1", values: ms("p50") },
              { label: "p95", color: "--chart-4", values: ms("p95") },
              { label: "p99", color: "--chart-5", values: ms("p99") },
            ],
    };
  }, [data, show]);
  if (error !== null && data === undefined)
    return <QueryError error={error} onRetry={() => void refetch()} />;
  const what = show === "requests" ? "Requests, errors and denials" : "Latency: p50, p95 and p99";
  return (
    <Chart
      label={`${what}${of === undefined ? "" : ` of ${of}`} over the last ${rangeWords[range]}. Arrow keys read the points.`}
      times={times}
      lines={lines}
      whole={show === "requests"}
      format={show === "requests" ? formatCompact : formatMs}
      {...(height === undefined ? {} : { height })}
      {...(top === undefined ? {} : { top })}
      group={show === "requests" || of === undefined ? "traffic" : of}
    />
  );
}
