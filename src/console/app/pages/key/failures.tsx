import { Link } from "@tanstack/react-router";
import { StatsDimension, StatsService } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { type Bar, Bars } from "../../parts/bars.tsx";
import { useFailureReasons } from "../../parts/failure-reasons.tsx";
import { Panel } from "../../parts/panel.tsx";
import { type Range, rangeWords } from "../../parts/range.ts";
import { Time } from "../../parts/time.tsx";
import { useRanged } from "../../parts/use-ranged.ts";
import classes from "./key.module.css";
import { useLastFailure } from "./use-last-failure.ts";

interface FailuresProps {
  readonly apiKeyId: string;
  readonly range: Range;
}

/** Why a key's calls failed, and which. */
export function Failures({ apiKeyId, range }: FailuresProps) {
  const reasons = useFailureReasons(range, apiKeyId);
  const methods = useFailingMethods(range, apiKeyId);
  return (
    <Panel title="Failures" about={<LastFailure apiKeyId={apiKeyId} />} flush>
      {reasons.bars?.length === 0 ? (
        <p className={classes.none}>Nothing failed in the last {rangeWords[range]}.</p>
      ) : (
        <div className={classes.failures}>
          <section>
            <h3>By reason</h3>
            <Bars {...reasons} label="Failures by reason" counted="Failures" withRate={false} />
          </section>
          <section>
            <h3>By method</h3>
            <Bars {...methods} label="Failures by method" counted="Failures" />
          </section>
        </div>
      )}
    </Panel>
  );
}

function useFailingMethods(range: Range, key: string) {
  const { data, error, refetch } = useRanged(StatsService.method.getBreakdown, range, {
    filter: { apiKeyId: key },
    groupBy: StatsDimension.METHOD,
    limit: 100,
  });
  const bars = data?.groups
    .map(({ group, stats }): Bar => {
      const { service = "", method = "" } = group ?? {};
      return {
        key: `${service}/${method}`,
        name: (
          <Link to="/logs" search={{ key, service, method, errors: "1", range, console: "1" }}>
            {method}
          </Link>
        ),
        more: service,
        count: stats?.errors ?? 0n,
        rate: stats?.errorRate ?? 0,
      };
    })
    .filter(({ count }) => count > 0n)
    .sort((a, b) => Number(b.count - a.count))
    .slice(0, 10);
  return { bars, error: data === undefined ? error : null, retry: () => void refetch() };
}

function LastFailure({ apiKeyId }: { apiKeyId: string }) {
  const last = useLastFailure(apiKeyId);
  if (last === undefined) return null;
  return (
    <>
      Last failed <Time value={last.time} />:{" "}
      <Link to="/logs" search={{ key: apiKeyId, errors: "1", row: last.id }}>
        {last.errorMessage || last.code}
      </Link>
    </>
  );
}
