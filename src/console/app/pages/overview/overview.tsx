/** What happens on the server, and what failed. Staff see everyone's calls, others their own. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { rangeWords } from "../../parts/range.ts";
import { RangeControl } from "../../parts/range-control.tsx";
import { TrafficChart } from "../../parts/traffic-chart.tsx";
import { useMe } from "../../session/state.ts";
import { FailureReasons } from "./failure-reasons.tsx";
import { FirstSteps } from "./first-steps.tsx";
import { Live } from "./live.tsx";
import classes from "./overview.module.css";
import { RecentFailures } from "./recent-failures.tsx";
import { Tiles } from "./tiles.tsx";
import { TopKeys, TopMethods, TopUsers } from "./tops.tsx";

export function OverviewPage() {
  const { isStaff } = useMe();
  const { range = "24h" } = useSearch({ from: "/in/" });
  const navigate = useNavigate({ from: "/" });
  return (
    <>
      <PageHeader
        title="Overview"
        actions={
          <>
            <Live />
            <RangeControl value={range} onChange={(next) => void navigate({ search: { range: next } })} />
          </>
        }
      >
        {isStaff ? "All calls" : "Your calls"} of the last {rangeWords[range]}, the console's own included.
      </PageHeader>
      <FirstSteps />
      <div className={classes.page}>
        <Tiles range={range} />
        <div className={classes.charts}>
          <Panel title="Requests">
            <TrafficChart range={range} show="requests" />
          </Panel>
          <Panel title="Latency">
            <TrafficChart range={range} show="latency" />
          </Panel>
        </div>
        <div className={classes.tops}>
          <Panel title="Top keys" flush>
            <TopKeys range={range} />
          </Panel>
          <Panel title="Top methods" flush>
            <TopMethods range={range} />
          </Panel>
          {isStaff && (
            <Panel title="Top users" flush>
              <TopUsers range={range} />
            </Panel>
          )}
        </div>
        <div className={classes.failures}>
          <RecentFailures />
          <FailureReasons range={range} />
        </div>
      </div>
    </>
  );
}
