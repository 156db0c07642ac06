import type { ServerHealth } from "../../../../gen/latchkey/v1/server_service_pb.js";
import { Badge } from "../../parts/badge.tsx";
import { Fact, Facts } from "../../parts/facts.tsx";
import { formatCount, formatDuration } from "../../parts/format.ts";
import { Notice } from "../../parts/notice.tsx";

/** How the instance that answers and its database are. */
export function Health({ health }: { health: ServerHealth | undefined }) {
  if (health === undefined) return null;
  const { migrationsApplied, migrationsKnown } = health;
  return (
    <>
      {!health.databaseUp && (
        <Notice tone="danger" title="The database does not answer.">
          Keys in memory go on for a while; other calls are answered unavailable. What is counted is written
          when it is back.
        </Notice>
      )}
      <Facts label="Health">
        <Fact name="Database">
          <State good={health.databaseUp} yes="Answers" no="Does not answer" />
          {health.databaseUp && <span className="dim num">in {formatDuration(health.databaseLatency)}</span>}
        </Fact>
        <Fact name="Where">{health.database}</Fact>
        {health.databaseVersion !== "" && <Fact name="Postgres">{health.databaseVersion}</Fact>}
        <Fact name="Changes of keys">
          <State good={health.changesHeard} yes="Heard at once" no="Not heard: each call asks the database" />
        </Fact>
        <Fact name="Migrations">
          <State
            good={migrationsApplied === migrationsKnown}
            yes={`All ${migrationsKnown} applied`}
            no={`${migrationsApplied} applied, this version has ${migrationsKnown}`}
          />
        </Fact>
        <Fact name="Running calls">
          <span className="num">{formatCount(health.runningRpcs)}</span>
        </Fact>
      </Facts>
    </>
  );
}

function State({ good, yes, no }: { good: boolean; yes: string; no: string }) {
  return (
    <Badge tone={good ? "good" : "danger"} dot>
      {good ? yes : no}
    </Badge>
  );
}
