import { useQuery } from "@connectrpc/connect-query";
import { IconCircleCheck } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { agoColumn, codeColumn, errorColumn } from "../../parts/call-columns.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable, rowLink } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { useLiveInterval } from "../../parts/live.ts";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";

const columns: readonly Column<RequestLog>[] = [
  {
    id: "method",
    header: "Method",
    width: "34%",
    cell: ({ id, service, method }) => (
      <Link
        to="/logs"
        search={{ errors: "1", row: id }}
        className={`${rowLink} clip`}
        title={`${service}/${method}`}
      >
        {method} <span className="dim">{service}</span>
      </Link>
    ),
  },
  codeColumn,
  { ...errorColumn, width: "36%", only: "compact" },
  agoColumn,
];

export function RecentFailures() {
  const { data, error, refetch } = useQuery(
    RequestLogService.method.listRequestLogs,
    { filter: { errorsOnly: true, withoutSessions: true }, pageSize: 8 },
    { refetchInterval: useLiveInterval(15_000) },
  );
  return (
    <Panel
      title="Recent failures"
      flush
      actions={
        <Link to="/logs" search={{ errors: "1" }}>
          All failures
        </Link>
      }
    >
      {error !== null && data === undefined ? (
        <QueryError error={error} onRetry={() => void refetch()} />
      ) : (
        <DataTable
          label="Recent failures"
          columns={columns}
          rows={data?.requestLogs}
          rowKey={({ id }) => id}
          expected={8}
          empty={
            <EmptyState title="Nothing failed" icon={<IconCircleCheck size={20} aria-hidden />}>
              Calls that end with another code than ok are listed here.
            </EmptyState>
          }
        />
      )}
    </Panel>
  );
}
