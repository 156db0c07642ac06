import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import type { StatsBreakdown, StatsGroup } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { EmptyState } from "../../parts/empty-state.tsx";
import { formatCompact, formatCount, formatPercent } from "../../parts/format.ts";
import { QueryError } from "../../parts/query-error.tsx";
import classes from "./bars.module.css";

interface BarsProps {
  readonly label: string;
  readonly groups: readonly StatsBreakdown[] | undefined;
  readonly error: unknown;
  readonly retry: () => void;
  /** What stands there when there is no group. */
  readonly none?: string;
  /** False: all of it is errors. */
  readonly withRate?: boolean;
  readonly nameOf: (group: Partial<StatsGroup>) => { name: ReactNode; more?: string };
}

/** Groups with their requests and errors, each with a bar as long as its part of the largest. */
export function Bars(props: BarsProps) {
  const { label, groups, error, retry, nameOf, none = "No requests in this range", withRate = true } = props;
  if (error !== null) return <QueryError error={error} onRetry={retry} />;
  if (groups?.length === 0) return <EmptyState title={none} />;
  const most = Number(groups?.[0]?.stats?.requests ?? 1n);
  return (
    <table className={classes.bars} aria-label={label}>
      <colgroup>
        <col />
        <col className={classes.number} />
        {withRate && <col className={classes.rate} />}
      </colgroup>
      <thead className="visually-hidden">
        <tr>
          <th scope="col">Name</th>
          <th scope="col">Requests</th>
          {withRate && <th scope="col">Errors</th>}
        </tr>
      </thead>
      <tbody>
        {groups === undefined
          ? ["a", "b", "c", "d", "e"].map((key) => (
              <tr key={key}>
                <td colSpan={3}>
                  <Skeleton h={14} my={5} />
                </td>
              </tr>
            ))
          : groups.map(({ group, stats }) => {
              const { name, more } = nameOf(group ?? {});
              const requests = stats?.requests ?? 0n;
              const rate = stats?.errorRate ?? 0;
              return (
                <tr
                  key={JSON.stringify([
                    group?.service,
                    group?.method,
                    group?.code,
                    group?.apiKeyId,
                    String(group?.userId),
                  ])}
                >
                  <td className={classes.name}>
                    <span
                      className={classes.bar}
                      style={{ width: `${(100 * Number(requests)) / most}%` }}
                      aria-hidden
                    />
                    <span className={classes.words}>
                      <span className={classes.main}>{name}</span>
                      {more !== undefined && <span className={classes.more}>{more}</span>}
                    </span>
                  </td>
                  <td className={classes.number} title={formatCount(requests)}>
                    {formatCompact(requests)}
                  </td>
                  {withRate && (
                    <td
                      className={classes.rate}
                      data-bad={rate >= 0.05}
                      title={`${formatPercent(rate)} errors`}
                    >
                      {rate === 0 ? "" : formatPercent(rate)}
                    </td>
                  )}
                </tr>
              );
            })}
      </tbody>
    </table>
  );
}
