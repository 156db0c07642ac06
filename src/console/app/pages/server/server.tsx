/** What runs, on what, and how it is set. For staff. */
import { useQuery } from "@connectrpc/connect-query";
import { Skeleton } from "@mantine/core";
import {
  type GetServerResponse,
  type Instance,
  InstanceState,
  ServerService,
} from "../../../../gen/latchkey/v1/server_service_pb.js";
import { Badge, type Tone } from "../../parts/badge.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { useLiveInterval } from "../../parts/live.ts";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { Time } from "../../parts/time.tsx";
import { Counts } from "./counts.tsx";
import { Health } from "./health.tsx";
import classes from "./server.module.css";
import { Settings } from "./settings.tsx";

export function ServerPage() {
  const { data, error, refetch } = useQuery(
    ServerService.method.getServer,
    {},
    { refetchInterval: useLiveInterval(10_000) },
  );
  return (
    <>
      <PageHeader title="Server">
        {data === undefined ? "Instances, health and settings." : <Version server={data} />}
      </PageHeader>
      {error !== null && <QueryError error={error} onRetry={() => void refetch()} />}
      {data === undefined ? (
        error === null && <Skeleton h={420} />
      ) : (
        <div className={classes.page}>
          <Counts counts={data.counts} />
          <div className={classes.pair}>
            <Panel title="Health">
              <Health health={data.health} />
            </Panel>
            <Panel title="Instances" about="Those that run, and those that ended within a day." flush>
              <DataTable
                label="Instances"
                columns={columns}
                rows={data.instances}
                rowKey={({ id }) => id}
                empty={<EmptyState title="None is known">The database does not answer.</EmptyState>}
              />
            </Panel>
          </div>
          <Settings settings={data.settings} />
        </div>
      )}
    </>
  );
}

function Version({ server: { version, nodeVersion, startedAt } }: { server: GetServerResponse }) {
  return (
    <>
      Latchkey {version} on Node {nodeVersion}, started <Time value={startedAt} />.
    </>
  );
}

const states: Record<InstanceState, readonly [word: string, tone: Tone]> = {
  [InstanceState.UNSPECIFIED]: ["Not known", "neutral"],
  [InstanceState.RUNNING]: ["Running", "good"],
  [InstanceState.STOPPED]: ["Stopped", "neutral"],
  [InstanceState.LOST]: ["Lost", "danger"],
};

const columns: readonly Column<Instance>[] = [
  {
    id: "host",
    header: "Host",
    width: "34%",
    cell: ({ hostname, pid, current }) => (
      <span className="clip" title={`${hostname}, process ${pid}`}>
        {hostname} <span className="dim num">· {pid}</span>{" "}
        {current && <Badge tone="info">Answers you</Badge>}
      </span>
    ),
  },
  {
    id: "state",
    header: "State",
    cell: ({ state }) => (
      <Badge tone={states[state][1]} dot>
        {states[state][0]}
      </Badge>
    ),
  },
  { id: "version", header: "Version", cell: ({ version }) => version },
  { id: "started", header: "Started", cell: ({ startedAt }) => <Time value={startedAt} /> },
  { id: "seen", header: "Seen", only: "compact", cell: ({ seenAt }) => <Time value={seenAt} /> },
];
