import { useQuery } from "@connectrpc/connect-query";
import { Link } from "@tanstack/react-router";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import {
  addressColumn,
  agoColumn,
  codeColumn,
  durationColumn,
  errorColumn,
} from "../../parts/call-columns.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable, rowLink } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { useLiveInterval } from "../../parts/live.ts";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import classes from "./key.module.css";

function columnsOf(apiKeyId: string): readonly Column<RequestLog>[] {
  return [
    {
      id: "method",
      header: "Method",
      width: "34%",
      cell: ({ id, service, method }) => (
        <Link
          to="/logs"
          search={{ key: apiKeyId, row: id }}
          className={`${rowLink} clip`}
          title={`${service}/${method}`}
        >
          {method} <span className="dim">{service}</span>
        </Link>
      ),
    },
    codeColumn,
    { ...errorColumn, width: "26%", only: "compact" },
    { ...addressColumn, only: "wide" },
    durationColumn,
    agoColumn,
  ];
}

/** The last calls of one key. */
export function RecentCalls({ apiKeyId }: { apiKeyId: string }) {
  const { data, error, refetch } = useQuery(
    RequestLogService.method.listRequestLogs,
    { filter: { apiKeyId }, pageSize: 10 },
    { refetchInterval: useLiveInterval(15_000) },
  );
  return (
    <Panel
      title="Recent calls"
      flush
      actions={
        <div className={classes.links}>
          <Link to="/logs" search={{ key: apiKeyId, errors: "1" }}>
            Failures
          </Link>
          <Link to="/logs" search={{ key: apiKeyId }}>
            All calls
          </Link>
        </div>
      }
    >
      {error !== null && data === undefined ? (
        <QueryError error={error} onRetry={() => void refetch()} />
      ) : (
        <DataTable
          label="Recent calls"
          columns={columnsOf(apiKeyId)}
          rows={data?.requestLogs}
          rowKey={({ id }) => id}
          expected={10}
          empty={
            <EmptyState title="No calls yet">
              Send the token with a call, in the header that the server reads it from; it appears here within
              a second.
            </EmptyState>
          }
        />
      )}
    </Panel>
  );
}
