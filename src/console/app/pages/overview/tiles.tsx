/** The sums of the range, beside those of the range before it. */
import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import { type Stats, StatsService } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { durationMs, formatCompact, formatCount, formatDuration, formatPercent } from "../../parts/format.ts";
import { QueryError } from "../../parts/query-error.tsx";
import { type Range, rangeMs, rangeWords } from "../../parts/range.ts";
import { useRanged } from "../../parts/use-ranged.ts";
import classes from "./overview.module.css";

export function Tiles({ range }: { range: Range }) {
  const now = useRanged(StatsService.method.getOverview, range, {});
  const before = useRanged(StatsService.method.getOverview, range, {}, { before: rangeMs[range] });
  const stats = now.data?.stats;
  const old = before.isPlaceholderData ? undefined : before.data?.stats;
  if (now.error !== null && stats === undefined) {
    return <QueryError error={now.error} onRetry={() => void now.refetch()} />;
  }
  const perSecond = stats === undefined ? 0 : (Number(stats.requests) * 1_000) / rangeMs[range];
  return (
    <section className={classes.tiles} aria-label={`Sums of the last ${rangeWords[range]}`}>
      <Tile
        what="Requests"
        much={stats && <span title={formatCount(stats.requests)}>{formatCompact(stats.requests)}</span>}
      >
        {stats && `${Number(perSecond.toPrecision(2))} a second`}
        {change(stats, old, ({ requests }) => Number(requests))}
      </Tile>
      <Tile what="Error rate" much={stats && formatPercent(stats.errorRate)}>
        {stats && `${formatCompact(stats.errors)} errors`}
        {change(stats, old, ({ errorRate }) => errorRate, "less")}
      </Tile>
      <Tile
        what="Denials"
        much={stats && <span title={formatCount(stats.denials)}>{formatCompact(stats.denials)}</span>}
      >
        {stats && `${formatPercent(share(stats.denials, stats.requests))} of requests`}
        {change(stats, old, ({ denials, requests }) => share(denials, requests), "less")}
      </Tile>
      <Tile what="Latency, p95" much={stats && formatDuration(stats.p95)}>
        {stats && `median ${formatDuration(stats.p50)}`}
        {change(stats, old, ({ p95 }) => (p95 === undefined ? 0 : durationMs(p95)), "less")}
      </Tile>
    </section>
  );
}

const share = (part: bigint, of: bigint) => (of === 0n ? 0 : Number(part) / Number(of));

function Tile({ what, much, children }: { what: string; much: ReactNode; children: ReactNode }) {
  return (
    <div className={classes.tile}>
      <div className={classes.what}>{what}</div>
      <div className={classes.much}>{much ?? <Skeleton h={24} w={80} my={6} />}</div>
      <div className={`${classes.more} num`}>{children}</div>
    </div>
  );
}

/** How much it changed, where it did by more than a percent; coloured where one way is the better one. */
function change(
  now: Stats | undefined,
  old: Stats | undefined,
  of: (stats: Stats) => number,
  better?: "less",
) {
  if (now === undefined || old === undefined || of(old) === 0) return null;
  const part = of(now) / of(old) - 1;
  if (Math.abs(part) < 0.01) return null;
  const tone =
    better === undefined || Math.abs(part) < 0.1 ? undefined : part < 0 ? classes.better : classes.worse;
  const percent = Math.abs(part) > 9.99 ? "over 10 times" : `${Math.round(Math.abs(part) * 100)}%`;
  return (
    <>
      {" · "}
      <span className={tone} title="Against the same time before">
        {part > 0 ? "↑" : "↓"} {percent}
        <span className="visually-hidden"> {part > 0 ? "more" : "less"} than before</span>
      </span>
    </>
  );
}
