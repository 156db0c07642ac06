/** Who changed which key or user, and who signed in. For staff. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { useQuery } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { IconHistory } from "@tabler/icons-react";
import { keepPreviousData } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { AuditLogService } from "../../../../gen/latchkey/v1/audit_log_service_pb.js";
import { Choice } from "../../parts/choice.tsx";
import { DataTable } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { FilterBar } from "../../parts/filter-bar.tsx";
import { KeySelect } from "../../parts/key-select.tsx";
import { useKeysById, useUsersById } from "../../parts/names.ts";
import { PageHeader } from "../../parts/page-header.tsx";
import { Pager } from "../../parts/pager.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { TimeFilter } from "../../parts/time-filter.tsx";
import { UserSelect } from "../../parts/user-select.tsx";
import { auditColumns } from "./columns.tsx";
import { EventDrawer } from "./event-drawer.tsx";
import { type AuditSearch, actionWords } from "./search.ts";

function requestOf({ action = "", actor, target, key = "", from, to, page = "" }: AuditSearch) {
  return {
    action,
    actorUserId: actor === undefined ? 0n : BigInt(actor),
    targetUserId: target === undefined ? 0n : BigInt(target),
    targetApiKeyId: key,
    ...(from === undefined ? {} : { startTime: timestampFromDate(new Date(from)) }),
    ...(to === undefined ? {} : { endTime: timestampFromDate(new Date(to)) }),
    pageSize: 50,
    pageToken: page,
  };
}

export function AuditPage() {
  const search = useSearch({ from: "/in/audit" });
  const navigate = useNavigate({ from: "/audit" });
  const { data, error, refetch, isPlaceholderData } = useQuery(
    AuditLogService.method.listAuditEvents,
    requestOf(search),
    { placeholderData: keepPreviousData },
  );
  const rows = data?.auditEvents;
  const users = useUsersById(
    (rows ?? []).flatMap(({ actorUserId, targetUserId }) => [actorUserId, targetUserId]),
  );
  const keys = useKeysById(
    (rows ?? []).flatMap(({ actorApiKeyId, targetApiKeyId }) => [actorApiKeyId, targetApiKeyId]),
  );
  const columns = useMemo(() => auditColumns({ users, keys }), [users, keys]);
  const change = (next: Partial<AuditSearch>) =>
    void navigate({ search: (old) => ({ ...old, page: undefined, row: undefined, ...next }) });
  const { action, actor, target, key, from, to, page, row } = search;
  const isFiltered = [action, actor, target, key, from, to].some((value) => value !== undefined);
  const clear = () => void navigate({ search: {} });

  return (
    <>
      <PageHeader title="Audit log">
        Every change of a key or user, and every sign-in, written with the change itself.
      </PageHeader>
      <Panel flush>
        <FilterBar onClear={isFiltered ? clear : undefined}>
          <Choice
            label="What was done"
            options={actionWords}
            value={action}
            onChange={(next) => change({ action: next })}
            clearable
          />
          <UserSelect label="By" value={actor} onChange={(next) => change({ actor: next })} clearable />
          <UserSelect label="User" value={target} onChange={(next) => change({ target: next })} clearable />
          <KeySelect value={key} onChange={(next) => change({ key: next })} />
          <TimeFilter from={from} to={to} onChange={(times) => change({ from: times.from, to: times.to })} />
        </FilterBar>
        {error !== null && rows === undefined ? (
          <QueryError error={error} onRetry={() => void refetch()} />
        ) : (
          <DataTable
            label="Audit log"
            columns={columns}
            rows={rows}
            rowKey={({ id }) => String(id)}
            stale={isPlaceholderData}
            current={row}
            empty={
              <EmptyState
                title={isFiltered ? "No change matches" : "No changes yet"}
                icon={<IconHistory size={20} aria-hidden />}
                action={
                  isFiltered && (
                    <Button variant="default" onClick={clear}>
                      Clear filters
                    </Button>
                  )
                }
              >
                Creating, changing, rotating and revoking keys, changing users and signing in are written
                here.
              </EmptyState>
            }
          />
        )}
        {rows !== undefined && (rows.length > 0 || page !== undefined) && (
          <Pager
            page={page}
            next={data?.nextPageToken}
            summary={rows.length === 1 ? "1 event" : `${rows.length} events on this page, the newest first`}
            onPage={(next) => change({ page: next })}
          />
        )}
      </Panel>
      <EventDrawer
        event={rows?.find(({ id }) => String(id) === row)}
        names={{ users, keys }}
        onClose={() => void navigate({ search: (old) => ({ ...old, row: undefined }) })}
      />
    </>
  );
}
