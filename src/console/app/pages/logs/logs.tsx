/** Every call, or one's own: filtered, followed live, opened and saved. */
import { Button } from "@mantine/core";
import { IconActivity, IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { DataTable } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { FilterBar } from "../../parts/filter-bar.tsx";
import { useKeysById, useUsersById } from "../../parts/names.ts";
import { PageHeader } from "../../parts/page-header.tsx";
import { Pager } from "../../parts/pager.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { useMe } from "../../session/state.ts";
import { logColumns } from "./columns.tsx";
import { ExportButton } from "./export-menu.tsx";
import { Filters } from "./filters.tsx";
import classes from "./logs.module.css";
import { RowDrawer } from "./row-drawer.tsx";
import { filterNames, type LogsSearch } from "./search.ts";
import { TailBar } from "./tail-bar.tsx";
import { useListing } from "./use-listing.ts";
import { useTail } from "./use-tail.ts";

export function LogsPage() {
  const { isStaff } = useMe();
  const search = useSearch({ from: "/in/logs" });
  const navigate = useNavigate({ from: "/logs" });
  const [isPaused, setPaused] = useState(false);
  const isLive = search.live === "1";
  const { data, error, refetch, isPlaceholderData, isFetching } = useListing(search);
  const tail = useTail(search, isPaused);
  const rows = isLive ? tail.rows : data?.rows;
  const keys = useKeysById((rows ?? []).map(({ apiKeyId }) => apiKeyId));
  const users = useUsersById((rows ?? []).map(({ userId }) => userId));
  const { key, user } = search;
  const columns = useMemo(
    () => logColumns({ keys, users }, isStaff, { key, user }),
    [keys, users, isStaff, key, user],
  );

  const change = (next: Partial<LogsSearch>) =>
    void navigate({ search: (old) => ({ ...old, page: undefined, row: undefined, ...next }) });
  const clear = () => change(Object.fromEntries(filterNames.map((name) => [name, undefined])));
  const isFiltered = filterNames.some((name) => search[name] !== undefined);
  const setLive = (on: boolean) => {
    setPaused(false);
    change({ live: on ? "1" : undefined, range: undefined, from: undefined, to: undefined });
  };

  return (
    <>
      <PageHeader
        title="Request logs"
        actions={
          <>
            <ExportButton search={search} />
            <Button
              variant={isLive ? "filled" : "default"}
              aria-pressed={isLive}
              leftSection={
                isLive ? <IconPlayerPause size={15} aria-hidden /> : <IconPlayerPlay size={15} aria-hidden />
              }
              onClick={() => setLive(!isLive)}
            >
              {isLive ? "Stop live tail" : "Live tail"}
            </Button>
          </>
        }
      >
        {isStaff ? "Every call that ended, however it ended" : "Every call of yours"}
        {search.console === undefined && ", but those of this console"}. Requests that reach no method (HTTP
        404, 405 or 415) are not calls, and not in it.
      </PageHeader>
      <Panel flush>
        <FilterBar onClear={isFiltered ? clear : undefined}>
          <Filters search={search} change={change} />
        </FilterBar>
        {isLive && <TailBar tail={tail} isPaused={isPaused} onPause={setPaused} />}
        {!isLive && data?.incomplete && (
          <p className={classes.incomplete} role="status">
            Calls of the last moments are missing: more came than are laid out at once. They appear here by
            themselves.
          </p>
        )}
        {!isLive && error !== null && rows === undefined ? (
          <QueryError error={error} onRetry={() => void refetch()} />
        ) : (
          <DataTable
            label="Request logs"
            columns={columns}
            rows={rows}
            rowKey={({ id }) => id}
            stale={!isLive && isPlaceholderData}
            current={search.row}
            expected={isLive ? 3 : 15}
            empty={
              isLive ? (
                <EmptyState title="Waiting for calls" icon={<IconActivity size={20} aria-hidden />}>
                  {isFiltered ? "Calls that match the filters" : "Calls"} appear here as they end.
                </EmptyState>
              ) : data !== undefined && data.next !== "" ? (
                <EmptyState
                  title="Nothing found yet"
                  action={
                    <Button
                      variant="default"
                      onClick={() => change({ page: data.next })}
                      loading={isFetching}
                    >
                      Look further back
                    </Button>
                  }
                >
                  The newest rows hold no call that matches; older ones have not been looked at.
                </EmptyState>
              ) : isFiltered ? (
                <EmptyState
                  title="No call matches"
                  action={
                    <Button variant="default" onClick={clear}>
                      Clear filters
                    </Button>
                  }
                >
                  {reachesBack(search)
                    ? "The log keeps calls for some time only; the statistics count older ones too."
                    : "No call in the log matches all of the filters."}
                </EmptyState>
              ) : (
                <EmptyState title="No calls yet" icon={<IconActivity size={20} aria-hidden />}>
                  Call the server with a key's token; the call appears here within a second.
                </EmptyState>
              )
            }
          />
        )}
        {!isLive && rows !== undefined && (rows.length > 0 || search.page !== undefined) && (
          <Pager
            page={search.page}
            next={data?.next}
            summary={rows.length === 1 ? "1 call" : `${rows.length} calls on this page, the newest first`}
            onPage={(page) => change({ page })}
          />
        )}
      </Panel>
      <RowDrawer
        id={search.row}
        row={rows?.find(({ id }) => id === search.row)}
        onClose={() => void navigate({ search: (old) => ({ ...old, row: undefined }) })}
      />
    </>
  );
}

/** Whether it asks for so long ago that the log may no longer have it. */
function reachesBack({ from, to }: LogsSearch): boolean {
  const first = from ?? to;
  return first !== undefined && Date.parse(first) < Date.now() - 7 * 86_400_000;
}
