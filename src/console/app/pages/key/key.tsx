/** One key: what it may do, what it does, and how it ends. */

import { Code, ConnectError } from "@connectrpc/connect";
import { useQuery } from "@connectrpc/connect-query";
import { Button, Skeleton } from "@mantine/core";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { type ApiKey, ApiKeyService, ApiKeyStatus } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { KeyStatusBadge } from "../../parts/badge.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { LinkButton } from "../../parts/link-button.tsx";
import { useLiveInterval } from "../../parts/live.ts";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { RangeControl } from "../../parts/range-control.tsx";
import { RevokeDialog } from "../../parts/revoke-dialog.tsx";
import { TrafficPanel } from "../../parts/traffic-panel.tsx";
import { Failures } from "./failures.tsx";
import classes from "./key.module.css";
import { KeyFacts } from "./key-facts.tsx";
import { RecentCalls } from "./recent-calls.tsx";
import { RotateDialog } from "./rotate-dialog.tsx";
import { RotationPanel } from "./rotation-panel.tsx";

const back = <Link to="/keys">API keys</Link>;

export function KeyPage() {
  const { id } = useParams({ from: "/in/keys/$id" });
  const { data, error, refetch } = useQuery(
    ApiKeyService.method.getApiKey,
    { id },
    { refetchInterval: useLiveInterval(15_000) },
  );
  if (data?.apiKey !== undefined) return <KeyView key={id} apiKey={data.apiKey} />;
  if (error !== null) {
    const { code } = ConnectError.from(error);
    if (code !== Code.NotFound && code !== Code.InvalidArgument) {
      return <QueryError error={error} onRetry={() => void refetch()} />;
    }
    return (
      <>
        <PageHeader title="No such key" back={back} />
        <Panel>
          <EmptyState title="There is no key with this id" action={<Link to="/keys">To all keys</Link>}>
            It may have been deleted with its user, or belong to someone else.
          </EmptyState>
        </Panel>
      </>
    );
  }
  return (
    <>
      <PageHeader title="API key" back={back} />
      <div className={classes.page}>
        <Panel>
          <Skeleton h={260} />
        </Panel>
        <Panel>
          <Skeleton h={260} />
        </Panel>
      </div>
    </>
  );
}

function KeyView({ apiKey }: { apiKey: ApiKey }) {
  const { range = "24h" } = useSearch({ from: "/in/keys/$id" });
  const navigate = useNavigate({ from: "/keys/$id" });
  const [dialog, setDialog] = useState<"rotate" | { readonly revoke: ApiKey }>();
  const close = () => setDialog(undefined);
  const isRevoked = apiKey.status === ApiKeyStatus.REVOKED;
  const canRotate = apiKey.status === ApiKeyStatus.ACTIVE && apiKey.rotatedTo === "";
  return (
    <>
      <PageHeader
        title={apiKey.name}
        back={back}
        beside={<KeyStatusBadge status={apiKey.status} />}
        actions={
          !isRevoked && (
            <>
              <LinkButton to="/keys/$id/edit" params={{ id: apiKey.id }} variant="default">
                Edit
              </LinkButton>
              {canRotate && (
                <Button variant="default" onClick={() => setDialog("rotate")}>
                  Rotate
                </Button>
              )}
              <Button color="red" variant="light" onClick={() => setDialog({ revoke: apiKey })}>
                Revoke
              </Button>
            </>
          )
        }
      >
        {apiKey.description === "" ? undefined : apiKey.description}
      </PageHeader>
      <div className={classes.page}>
        <div className={classes.main}>
          <div className={classes.range}>
            <span className="dim">Time range</span>
            <RangeControl
              value={range}
              onChange={(next) => void navigate({ search: { range: next }, replace: true })}
            />
          </div>
          <RotationPanel apiKey={apiKey} range={range} onRevoke={(revoke) => setDialog({ revoke })} />
          <TrafficPanel range={range} filter={{ apiKeyId: apiKey.id }} of="this key" />
          <Failures apiKeyId={apiKey.id} range={range} />
          <RecentCalls apiKeyId={apiKey.id} />
        </div>
        <KeyFacts apiKey={apiKey} />
      </div>
      <RotateDialog apiKey={apiKey} opened={dialog === "rotate"} onClose={close} />
      <RevokeDialog keys={typeof dialog === "object" ? [dialog.revoke] : undefined} onClose={close} />
    </>
  );
}
