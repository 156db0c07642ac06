/** One user: their keys, sessions and traffic, and what staff can do about them. */
import { useQuery } from "@connectrpc/connect-query";
import { Button, Skeleton } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { type User, UserAdminService } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { Badge } from "../../parts/badge.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { formatCount } from "../../parts/format.ts";
import { LinkButton } from "../../parts/link-button.tsx";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { Time } from "../../parts/time.tsx";
import { TrafficPanel } from "../../parts/traffic-panel.tsx";
import { DeleteDialog } from "./delete-dialog.tsx";
import { DisableDialog } from "./disable-dialog.tsx";
import { EditDialog } from "./edit-dialog.tsx";
import { RevokeAllDialog } from "./revoke-all-dialog.tsx";
import { Sessions } from "./sessions.tsx";
import classes from "./user.module.css";

const back = <Link to="/users">Users</Link>;

export function UserPage() {
  const { id } = useParams({ from: "/in/users/$id" });
  const isId = /^[1-9]\d{0,18}$/.test(id);
  const { data, error, refetch } = useQuery(
    UserAdminService.method.getUser,
    { id: isId ? BigInt(id) : 0n },
    { enabled: isId },
  );
  if (data?.user !== undefined) return <UserView key={id} user={data.user} />;
  if (!isId || error?.rawMessage.includes("not found")) {
    return (
      <>
        <PageHeader title="No such user" back={back} />
        <Panel>
          <EmptyState title="There is no user with this id" action={<Link to="/users">To all users</Link>}>
            They may have been deleted. Their calls and changes stay in the logs.
          </EmptyState>
        </Panel>
      </>
    );
  }
  if (error !== null) return <QueryError error={error} onRetry={() => void refetch()} />;
  return (
    <>
      <PageHeader title="User" back={back} />
      <Skeleton h={320} />
    </>
  );
}

function UserView({ user }: { user: User }) {
  const { range = "24h" } = useSearch({ from: "/in/users/$id" });
  const navigate = useNavigate({ from: "/users/$id" });
  const [dialog, setDialog] = useState<"edit" | "disable" | "delete" | "revoke">();
  const close = () => setDialog(undefined);
  const id = String(user.id);
  return (
    <>
      <PageHeader
        title={user.username}
        back={back}
        beside={
          <>
            {user.isStaff && <Badge tone="info">Staff</Badge>}
            <Badge tone={user.isActive ? "good" : "warning"} dot>
              {user.isActive ? "Active" : "Disabled"}
            </Badge>
          </>
        }
        actions={
          <>
            <Button variant="default" onClick={() => setDialog("edit")}>
              Edit
            </Button>
            <Button variant="default" onClick={() => setDialog("disable")}>
              {user.isActive ? "Disable" : "Enable"}
            </Button>
            <Button color="red" variant="light" onClick={() => setDialog("delete")}>
              Delete
            </Button>
          </>
        }
      >
        {user.email === "" ? undefined : user.email}
      </PageHeader>
      <div className={classes.page}>
        <div className={classes.main}>
          <TrafficPanel
            range={range}
            filter={{ userId: user.id }}
            of={user.username}
            onRange={(next) => void navigate({ search: { range: next }, replace: true })}
          />
          <Sessions userId={user.id} />
        </div>
        <div className={classes.main}>
          <Panel title="API keys">
            <p className={classes.much}>
              <span className="num">{formatCount(user.activeApiKeyCount)}</span> active
            </p>
            <div className={classes.buttons}>
              <LinkButton to="/keys" search={{ user: id }} variant="default" size="xs">
                Show keys
              </LinkButton>
              {user.isActive && (
                <LinkButton
                  to="/keys/new"
                  search={{ user: id }}
                  variant="default"
                  size="xs"
                  leftSection={<IconPlus size={14} aria-hidden />}
                >
                  Create one
                </LinkButton>
              )}
              <Button variant="default" size="xs" onClick={() => setDialog("revoke")}>
                Revoke all
              </Button>
            </div>
          </Panel>
          <Panel title="Details">
            <dl className={classes.facts}>
              {user.bio !== "" && (
                <div>
                  <dt>Bio</dt>
                  <dd>{user.bio}</dd>
                </div>
              )}
              <div>
                <dt>Id</dt>
                <dd className="mono">{id}</dd>
              </div>
              <div>
                <dt>Created</dt>
                <dd>
                  <Time value={user.createdAt} as="full" />
                </dd>
              </div>
              <div>
                <dt>Changed</dt>
                <dd>
                  <Time value={user.updatedAt} />
                </dd>
              </div>
              <div>
                <dt>What they did, and what was done to them</dt>
                <dd className={classes.links}>
                  <Link to="/logs" search={{ user: id }}>
                    Calls
                  </Link>
                  <Link to="/audit" search={{ actor: id }}>
                    Changes by them
                  </Link>
                  <Link to="/audit" search={{ target: id }}>
                    Changes to them
                  </Link>
                </dd>
              </div>
            </dl>
          </Panel>
        </div>
      </div>
      <EditDialog user={user} opened={dialog === "edit"} onClose={close} />
      <DisableDialog user={user} opened={dialog === "disable"} onClose={close} />
      <RevokeAllDialog user={user} opened={dialog === "revoke"} onClose={close} />
      <DeleteDialog user={user} opened={dialog === "delete"} onClose={close} />
    </>
  );
}
