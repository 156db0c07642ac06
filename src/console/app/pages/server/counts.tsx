import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { ServerCounts } from "../../../../gen/latchkey/v1/server_service_pb.js";
import { formatCount } from "../../parts/format.ts";
import classes from "./server.module.css";

/** How many of each there are; nothing where the database does not answer. */
export function Counts({ counts }: { counts: ServerCounts | undefined }) {
  if (counts === undefined) return null;
  const shown: readonly [string, ReactNode, ReactNode][] = [
    ["Active keys", formatCount(counts.activeApiKeys), `of ${formatCount(counts.apiKeys)}`],
    [
      "Expire within 14 days",
      formatCount(counts.expiringApiKeys),
      counts.expiringApiKeys > 0n && (
        <Link to="/keys" search={{ attention: "expiring30" }}>
          Look at them
        </Link>
      ),
    ],
    [
      "Active users",
      formatCount(counts.activeUsers),
      `of ${formatCount(counts.users)}, ${formatCount(counts.staffUsers)} staff`,
    ],
    ["Signed-in browsers", formatCount(counts.sessions), undefined],
  ];
  return (
    <dl className={classes.counts}>
      {shown.map(([what, much, more]) => (
        <div key={what}>
          <dt>{what}</dt>
          <dd className="num">{much}</dd>
          <dd className={classes.more}>{more}</dd>
        </div>
      ))}
    </dl>
  );
}
