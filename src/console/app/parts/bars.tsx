import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./bars.module.css";
import { EmptyState } from "./empty-state.tsx";
import { formatCompact, formatCount, formatPercent } from "./format.ts";
import { QueryError } from "./query-error.tsx";

export interface Bar {
  readonly key: string;
  readonly name: ReactNode;
  /** A few words beside the name. */
  readonly more?: string;
  readonly count: bigint;
  /** The part of errors, from 0 to 1. */
  readonly rate?: number;
}

interface BarsProps {
  readonly label: string;
  /** The longest first; undefined while they load. */
  readonly bars: readonly Bar[] | undefined;
  readonly error: unknown;
  readonly retry: () => void;
  /** What is counted. */
  readonly counted?: string;
  /** What stands there when there is no bar. */
  readonly none?: string;
  /** False: all of it is errors. */
  readonly withRate?: boolean;
}

/** Counts of a few things, each with a bar as long as its part of the largest. */
export function Bars(props: BarsProps) {
  const { label, bars, error, retry, counted = "Requests", none = "No requests in this range" } = props;
  const { withRate = true } = props;
  if (error !== null) return <QueryError error={error} onRetry={retry} />;
  if (bars?.length === 0) return <EmptyState title={none} />;
  const most = Number(bars?.[0]?.count ?? 1n);
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
          <th scope="col">{counted}</th>
          {withRate && <th scope="col">Errors</th>}
        </tr>
      </thead>
      <tbody>
        {bars === undefined
          ? ["a", "b", "c", "d", "e"].map((key) => (
              <tr key={key}>
                <td colSpan={3}>
                  <Skeleton h={14} my={5} />
                </td>
              </tr>
            ))
          : bars.map(({ key, name, more, count, rate = 0 }) => (
              <tr key={key}>
                <td className={classes.name}>
                  <span
                    className={classes.bar}
                    style={{ width: `${(100 * Number(count)) / most}%` }}
                    aria-hidden
                  />
                  <span className={classes.words}>
                    <span className={classes.main}>{name}</span>
                    {more !== undefined && <span className={classes.more}>{more}</span>}
                  </span>
                </td>
                <td className={classes.number} title={formatCount(count)}>
                  {formatCompact(count)}
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
            ))}
      </tbody>
    </table>
  );
}
