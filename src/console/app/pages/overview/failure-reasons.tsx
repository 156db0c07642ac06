import { Bars } from "../../parts/bars.tsx";
import { useFailureReasons } from "../../parts/failure-reasons.tsx";
import { Panel } from "../../parts/panel.tsx";
import type { Range } from "../../parts/range.ts";

/** Why the calls of the range failed. */
export function FailureReasons({ range }: { range: Range }) {
  return (
    <Panel title="Failures by reason" flush>
      <Bars
        {...useFailureReasons(range)}
        label="Failures by reason"
        counted="Failures"
        none="No failures in this range"
        withRate={false}
      />
    </Panel>
  );
}
