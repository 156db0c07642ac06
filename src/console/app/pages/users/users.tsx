/** Everyone whom keys sign in. For staff. */
import { useQuery } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { keepPreviousData } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { type User, UserAdminService } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { Badge } from "../../parts/badge.tsx";
import { Choice } from "../../parts/choice.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable, rowLink } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { FilterBar } from "../../parts/filter-bar.tsx";
import { formatCount } from "../../parts/format.ts";
import { PageHeader } from "../../parts/page-header.tsx";
import { Pager } from "../../parts/pager.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { SearchField } from "../../parts/search-field.tsx";
import { Time } from "../../parts/time.tsx";
import { NewUserDialog } from "./new-user-dialog.tsx";
import { listRequest, type UsersSearch } from "./search.ts";

const columns: readonly Column<User>[] = [
  {
    id: "username",
    header: "Username",
    width: "26%",
    cell: ({ id, username }) => (
      <Link to="/users/$id" params={{ id: String(id) }} className={`${rowLink} clip`} title={username}>
        {username}
      </Link>
    ),
  },
  {
    id: "email",
    header: "Email",
    width: "30%",
    cell: ({ email }) => (
      <span className="clip" title={email}>
        {email === "" ? <span className="dim">–</span> : email}
      </span>
    ),
  },
  {
    id: "role",
    header: "Role",
    cell: ({ isStaff }) => (isStaff ? <Badge tone="info">Staff</Badge> : "User"),
  },
  {
    id: "status",
    header: "Status",
    cell: ({ isActive }) => (
      <Badge tone={isActive ? "good" : "warning"} dot>
        {isActive ? "Active" : "Disabled"}
      </Badge>
    ),
  },
  {
    id: "keys",
    header: "Active keys",
    align: "end",
    cell: ({ activeApiKeyCount }) => formatCount(activeApiKeyCount),
  },
  { id: "created", header: "Created", only: "wide", cell: ({ createdAt }) => <Time value={createdAt} /> },
];

const roleOptions = { staff: "Staff", others: "Not staff" } as const;
const statusOptions = { active: "Active", disabled: "Disabled" } as const;

export function UsersPage() {
  const search = useSearch({ from: "/in/users" });
  const navigate = useNavigate({ from: "/users" });
  const [isCreating, setCreating] = useState(false);
  const { data, error, refetch, isPlaceholderData } = useQuery(
    UserAdminService.method.listUsers,
    listRequest(search),
    { placeholderData: keepPreviousData },
  );
  const { q, role, status, page } = search;
  const change = (next: Partial<UsersSearch>) =>
    void navigate({ search: (old) => ({ ...old, page: undefined, ...next }) });
  const clear = () => change({ q: undefined, role: undefined, status: undefined });
  const isFiltered = [q, role, status].some((value) => value !== undefined);
  const rows = data?.users;

  return (
    <>
      <PageHeader
        title="Users"
        actions={
          <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={() => setCreating(true)}>
            Create user
          </Button>
        }
      >
        Everyone whom API keys sign in.
      </PageHeader>
      <Panel flush>
        <FilterBar onClear={isFiltered ? clear : undefined}>
          <SearchField
            label="Search users"
            placeholder="Username or email"
            value={q}
            onChange={(next) => change({ q: next })}
          />
          <Choice
            label="Role"
            options={roleOptions}
            value={role}
            onChange={(next) => change({ role: next })}
            clearable
          />
          <Choice
            label="Status"
            options={statusOptions}
            value={status}
            onChange={(next) => change({ status: next })}
            clearable
          />
        </FilterBar>
        {error !== null && rows === undefined ? (
          <QueryError error={error} onRetry={() => void refetch()} />
        ) : (
          <DataTable
            label="Users"
            columns={columns}
            rows={rows}
            rowKey={({ id }) => String(id)}
            stale={isPlaceholderData}
            empty={
              <EmptyState
                title="No user matches"
                action={
                  <Button variant="default" onClick={clear}>
                    Clear filters
                  </Button>
                }
              >
                Search looks at usernames and emails.
              </EmptyState>
            }
          />
        )}
        {rows !== undefined && (rows.length > 0 || page !== undefined) && (
          <Pager
            page={page}
            next={data?.nextPageToken}
            summary={rows.length === 1 ? "1 user" : `${rows.length} users on this page`}
            onPage={(next) => change({ page: next })}
          />
        )}
      </Panel>
      <NewUserDialog opened={isCreating} onClose={() => setCreating(false)} />
    </>
  );
}
