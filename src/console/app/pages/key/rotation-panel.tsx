/** While a key is being replaced: the traffic of the old and the new one, and whether the old one can end. */
import { useQuery } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type ApiKey, ApiKeyService, ApiKeyStatus } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { StatsService } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { formatCountOf } from "../../parts/format.ts";
import { Panel } from "../../parts/panel.tsx";
import { type Range, rangeWords } from "../../parts/range.ts";
import { Time } from "../../parts/time.tsx";
import { TrafficChart } from "../../parts/traffic-chart.tsx";
import { useRanged } from "../../parts/use-ranged.ts";
import classes from "./key.module.css";

interface RotationPanelProps {
  readonly apiKey: ApiKey;
  readonly range: Range;
  /** Opens the dialog that revokes this key. */
  readonly onRevoke: () => void;
}

export function RotationPanel({ apiKey, range, onRevoke }: RotationPanelProps) {
  const isOld = apiKey.rotatedTo !== "";
  const otherId = isOld ? apiKey.rotatedTo : apiKey.rotatedFrom;
  const { data } = useQuery(ApiKeyService.method.getApiKey, { id: otherId }, { enabled: otherId !== "" });
  const other = data?.apiKey;
  if (other === undefined) return null;
  const [older, newer] = isOld ? [apiKey, other] : [other, apiKey];
  return (
    <Panel
      title="Rotation"
      actions={
        isOld &&
        apiKey.status === ApiKeyStatus.ACTIVE && (
          <Button size="xs" variant="default" onClick={onRevoke}>
            End the old key now
          </Button>
        )
      }
    >
      <div className={classes.rotation}>
        <Advice older={older} isOld={isOld} range={range} />
        <div className={classes.charts}>
          {[older, newer].map((key) => (
            <section key={key.id}>
              <h3>
                {key === older ? "Old key" : "New key"}{" "}
                <Link to="/keys/$id" params={{ id: key.id }} className="mono">
                  {key.start}…
                </Link>
              </h3>
              <TrafficChart
                range={range}
                filter={{ apiKeyId: key.id }}
                show="requests"
                of={key === older ? "the old key" : "the new key"}
                height={150}
              />
            </section>
          ))}
        </div>
      </div>
    </Panel>
  );
}

/** What is left to do, by whether the old key is still used. */
function Advice({ older, isOld, range }: { older: ApiKey; isOld: boolean; range: Range }) {
  const { data } = useRanged(
    StatsService.method.getOverview,
    range,
    { filter: { apiKeyId: older.id } },
    { live: 10_000 },
  );
  const requests = data?.stats?.requests ?? 0n;
  const which = isOld ? "This key" : "The key before this one";
  if (older.status !== ApiKeyStatus.ACTIVE) return <p>{which} has ended: the rotation is complete.</p>;
  return (
    <p>
      {which} was replaced and lives until <Time value={older.expiresAt} as="full" />. In the last{" "}
      {rangeWords[range]} it made{" "}
      <strong>{requests === 0n ? "no requests" : formatCountOf(requests, "request")}</strong>
      {requests === 0n ? ": it looks safe to end." : ": some client has not switched yet."}
    </p>
  );
}
