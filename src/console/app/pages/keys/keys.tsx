/** All keys, or one's own: found, sorted, revoked. The whole view is in the URL. */
import { useQuery } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { IconKey, IconPlus } from "@tabler/icons-react";
import { keepPreviousData } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { type ApiKey, ApiKeyService, ApiKeyStatus } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { Choice } from "../../parts/choice.tsx";
import { DataTable } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { FilterBar } from "../../parts/filter-bar.tsx";
import { LinkButton } from "../../parts/link-button.tsx";
import { PageHeader } from "../../parts/page-header.tsx";
import { Pager } from "../../parts/pager.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { RevokeDialog } from "../../parts/revoke-dialog.tsx";
import { SearchField } from "../../parts/search-field.tsx";
import { UserSelect } from "../../parts/user-select.tsx";
import { useMe } from "../../session/state.ts";
import { keyColumns } from "./columns.tsx";
import classes from "./keys.module.css";
import { attentionOptions, type KeysSearch, listRequest, typeOptions } from "./search.ts";
import { StatusTabs } from "./status-tabs.tsx";

const createButton = (
  <LinkButton to="/keys/new" leftSection={<IconPlus size={16} aria-hidden />}>
    Create API key
  </LinkButton>
);

export function KeysPage() {
  const { isStaff } = useMe();
  const search = useSearch({ from: "/in/keys" });
  const navigate = useNavigate({ from: "/keys" });
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [revoking, setRevoking] = useState<readonly ApiKey[]>();
  const columns = useMemo(() => keyColumns(isStaff), [isStaff]);
  const { data, error, refetch, isPlaceholderData } = useQuery(
    ApiKeyService.method.listApiKeys,
    listRequest(search),
    { placeholderData: keepPreviousData },
  );

  /** Another filter begins at its first page; what was ticked may be out of sight. */
  function change(next: Partial<KeysSearch>) {
    setSelected(new Set());
    void navigate({ search: (old) => ({ ...old, page: undefined, ...next }) });
  }

  const { q, type, user, attention, status, sort, dir, page } = search;
  const filtered = [q, type, user, attention, status].some((value) => value !== undefined);
  const clear = () =>
    change({ q: undefined, type: undefined, user: undefined, attention: undefined, status: undefined });
  const rows = data?.apiKeys;
  const ticked = (rows ?? []).filter(({ id }) => selected.has(id));

  return (
    <>
      <PageHeader title="API keys" actions={createButton}>
        {isStaff ? "Every key of every user, and what it is used for." : "Your keys. Each signs in as you."}
      </PageHeader>
      <Panel flush>
        <StatusTabs search={search} />
        {ticked.length > 0 ? (
          <div className={classes.selected} role="toolbar" aria-label="What to do with the selected keys">
            <span>{ticked.length === 1 ? "1 key selected" : `${ticked.length} keys selected`}</span>
            <Button variant="default" onClick={() => setSelected(new Set())}>
              Clear selection
            </Button>
            <Button color="red" onClick={() => setRevoking(ticked)}>
              Revoke {ticked.length === 1 ? "key" : `${ticked.length} keys`}
            </Button>
          </div>
        ) : (
          <FilterBar onClear={filtered ? clear : undefined}>
            <SearchField
              label="Search keys"
              placeholder={isStaff ? "Name, description, start or user" : "Name, description or start"}
              value={q}
              onChange={(next) => change({ q: next })}
            />
            <Choice
              label="Type"
              options={typeOptions}
              value={type}
              onChange={(next) => change({ type: next })}
              clearable
            />
            {isStaff && (
              <UserSelect label="User" value={user} onChange={(next) => change({ user: next })} clearable />
            )}
            <Choice
              label="Needs attention"
              options={attentionOptions}
              value={attention}
              onChange={(next) => change({ attention: next, sort: undefined, dir: undefined })}
              clearable
            />
          </FilterBar>
        )}
        {error !== null && rows === undefined ? (
          <QueryError error={error} onRetry={() => void refetch()} />
        ) : (
          <DataTable
            label="API keys"
            columns={columns}
            rows={rows}
            rowKey={(key) => key.id}
            stale={isPlaceholderData}
            sort={
              attention === undefined
                ? { by: sort ?? "created", descending: (dir ?? "desc") === "desc" }
                : undefined
            }
            onSort={({ by, descending }) =>
              change({
                sort: by as KeysSearch["sort"],
                dir: descending ? "desc" : "asc",
                attention: undefined,
              })
            }
            selection={{
              selected,
              onChange: setSelected,
              nameOf: (key) => key.name,
              selectable: (key) => key.status !== ApiKeyStatus.REVOKED,
            }}
            empty={
              filtered ? (
                <EmptyState
                  title="No key matches"
                  action={
                    <Button variant="default" onClick={clear}>
                      Clear filters
                    </Button>
                  }
                >
                  Search looks at names, descriptions, starts{isStaff ? " and usernames" : ""}.
                </EmptyState>
              ) : (
                <EmptyState
                  title="No keys yet"
                  icon={<IconKey size={20} aria-hidden />}
                  action={createButton}
                >
                  A client sends a key's token with each call. Create one for each client, so that you see
                  what each does and can end it alone.
                </EmptyState>
              )
            }
          />
        )}
        {rows !== undefined && (rows.length > 0 || page !== undefined) && (
          <Pager
            page={page}
            next={data?.nextPageToken}
            summary={rows.length === 1 ? "1 key" : `${rows.length} keys on this page`}
            onPage={(next) => change({ page: next })}
          />
        )}
      </Panel>
      <RevokeDialog
        keys={revoking}
        onClose={() => setRevoking(undefined)}
        onDone={() => setSelected(new Set())}
      />
    </>
  );
}
