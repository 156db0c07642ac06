import { Link } from "@tanstack/react-router";
import { StatsDimension, StatsService } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { Panel } from "../../parts/panel.tsx";
import type { Range } from "../../parts/range.ts";
import { useRanged } from "../../parts/use-ranged.ts";
import { Bars } from "./bars.tsx";

/** With which codes the calls of the range failed. */
export function FailureCodes({ range }: { range: Range }) {
  const { data, error, refetch } = useRanged(StatsService.method.getBreakdown, range, {
    groupBy: StatsDimension.CODE,
    limit: 20,
  });
  const groups = data?.groups.filter(({ group }) => group?.code !== "ok");
  return (
    <Panel title="Failures by code" flush>
      <Bars
        label="Failures by code"
        groups={groups}
        error={data === undefined ? error : null}
        retry={() => void refetch()}
        none="No failures in this range"
        nameOf={({ code = "" }) => ({
          name: (
            <Link to="/logs" search={{ code }} className="mono">
              {code}
            </Link>
          ),
        })}
        withRate={false}
      />
    </Panel>
  );
}
