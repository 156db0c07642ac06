import type { ComponentProps } from "react";
import { Panel } from "./panel.tsx";
import type { Range } from "./range.ts";
import { RangeControl } from "./range-control.tsx";
import { TrafficChart } from "./traffic-chart.tsx";
import classes from "./traffic-panel.module.css";

interface TrafficPanelProps extends Pick<ComponentProps<typeof TrafficChart>, "filter" | "range" | "of"> {
  /** Left out where the range is chosen for more than this panel. */
  readonly onRange?: (range: Range) => void;
}

/** The requests and the latency of a key or a user over a range. */
export function TrafficPanel({ onRange, ...chart }: TrafficPanelProps) {
  return (
    <Panel
      title="Traffic"
      actions={onRange !== undefined && <RangeControl value={chart.range} onChange={onRange} />}
    >
      <div className={classes.charts}>
        <TrafficChart {...chart} show="requests" height={180} />
        <TrafficChart {...chart} show="latency" height={180} />
      </div>
    </Panel>
  );
}
