import { useQuery } from "@connectrpc/connect-query";
import { IconCircleCheck } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { agoColumn, codeColumn, errorColumn } from "../../parts/call-columns.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable, rowLink } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { useLiveInterval } from "../../parts/live.ts";
import { useKeysById } from "../../parts/names.ts";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { keyName, type Names } from "../logs/columns.tsx";

function columnsOf(names: Pick<Names, "keys">): readonly Column<RequestLog>[] {
  return [
    {
      id: "method",
      header: "Method",
      width: "28%",
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
    {
      id: "key",
      header: "Key",
      width: "20%",
      cell: (row) => (
        <span
          className={`clip ${row.apiKeyId === "" ? "dim" : ""}`}
          title={names.keys.get(row.apiKeyId)?.start}
        >
          {keyName(row, names)}
        </span>
      ),
    },
    { ...errorColumn, width: "28%", only: "compact" },
    agoColumn,
  ];
}

export function RecentFailures() {
  const { data, error, refetch } = useQuery(
    RequestLogService.method.listRequestLogs,
    { filter: { errorsOnly: true, withoutSessions: true }, pageSize: 8 },
    { refetchInterval: useLiveInterval(15_000) },
  );
  const rows = data?.requestLogs;
  const keys = useKeysById((rows ?? []).map(({ apiKeyId }) => apiKeyId));
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
          columns={columnsOf({ keys })}
          rows={rows}
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
