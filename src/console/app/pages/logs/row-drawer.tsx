/** All that is known of one call. */
import { Code, ConnectError } from "@connectrpc/connect";
import { useQuery } from "@connectrpc/connect-query";
import { Drawer, Skeleton, Stack } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { DenialReason } from "../../../../gen/latchkey/v1/verdict_pb.js";
import { CodeBadge, DenialBadge } from "../../parts/badge.tsx";
import { CopyButton } from "../../parts/copy-button.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { Fact, Facts } from "../../parts/facts.tsx";
import { formatBytes, formatDuration } from "../../parts/format.ts";
import { LinkButton } from "../../parts/link-button.tsx";
import { useKeysById, useUsersById } from "../../parts/names.ts";
import { Notice } from "../../parts/notice.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { Time } from "../../parts/time.tsx";
import { credentialWords, denialHelp } from "../../parts/words.ts";
import { useMe } from "../../session/state.ts";
import { keyName } from "./columns.tsx";
import classes from "./logs.module.css";

interface RowDrawerProps {
  readonly id: string | undefined;
  /** The row, where the listing has it. */
  readonly row: RequestLog | undefined;
  readonly onClose: () => void;
}

export function RowDrawer({ id, row, onClose }: RowDrawerProps) {
  const { data, error, refetch } = useQuery(
    RequestLogService.method.getRequestLog,
    { id: id ?? "" },
    { enabled: id !== undefined && row === undefined, staleTime: Number.POSITIVE_INFINITY },
  );
  const shown = row ?? data?.requestLog;
  const isGone =
    error !== null && [Code.NotFound, Code.InvalidArgument].includes(ConnectError.from(error).code);
  return (
    <Drawer opened={id !== undefined} onClose={onClose} title={shown?.method ?? "Call"} size={520}>
      {shown !== undefined ? (
        <RowDetails row={shown} />
      ) : isGone ? (
        <EmptyState title="This call is not in the log">
          It may be older than the log is kept, or another user's.
        </EmptyState>
      ) : error !== null ? (
        <QueryError error={error} onRetry={() => void refetch()} />
      ) : (
        <Skeleton h={420} />
      )}
    </Drawer>
  );
}

function RowDetails({ row }: { row: RequestLog }) {
  const { isStaff } = useMe();
  const keys = useKeysById([row.apiKeyId]);
  const users = useUsersById([row.userId]);
  const isDenied = row.denialReason !== DenialReason.UNSPECIFIED;
  const user = users.get(row.userId)?.username ?? `User ${row.userId}`;
  return (
    <Stack gap="lg">
      {isDenied && (
        <Notice tone="warning" title="Latchkey refused this call">
          {denialHelp[row.denialReason]}
          {row.apiKeyId !== "" && isMended(row.denialReason) && (
            <>
              {" "}
              <Link to="/keys/$id/edit" params={{ id: row.apiKeyId }}>
                Edit the key
              </Link>
            </>
          )}
        </Notice>
      )}
      {row.errorMessage !== "" && <div className={classes.message}>{row.errorMessage}</div>}
      <Facts>
        <Fact name="Code">
          <CodeBadge code={row.code} />
          {isDenied && <DenialBadge reason={row.denialReason} />}
        </Fact>
        <Fact name="Began">
          <Time value={row.time} as="full" />{" "}
          <span className="dim">{row.time && <Time value={row.time} />}</span>
        </Fact>
        <Fact name="Duration">{formatDuration(row.duration)}</Fact>
        <Fact name="Service">
          <code>{row.service}</code>
        </Fact>
        <Fact name="Method">
          <code>{row.method}</code>
        </Fact>
        <Fact name="Protocol">
          <code>{row.protocol}</code>
        </Fact>
        <Fact name="User">
          {row.userId === 0n ? (
            <span className="dim">Anonymous</span>
          ) : isStaff ? (
            <Link to="/users" search={{ q: user }}>
              {user}
            </Link>
          ) : (
            user
          )}
        </Fact>
        <Fact name="Credential">{credentialWords[row.credentialKind]}</Fact>
        <Fact name="Key">
          {row.apiKeyId === "" ? (
            <span className="dim">None</span>
          ) : (
            <Link to="/keys/$id" params={{ id: row.apiKeyId }}>
              {keyName(row, { keys, users })}
            </Link>
          )}
        </Fact>
        <Fact name="Address">
          <code>{row.peerAddress}</code>
        </Fact>
        <Fact name="User agent">
          {row.userAgent === "" ? <span className="dim">None</span> : row.userAgent}
        </Fact>
        <Fact name="Request">{formatBytes(row.requestBytes)}</Fact>
        <Fact name="Response">{formatBytes(row.responseBytes)}</Fact>
        <Id name="Request id" value={row.requestId} />
        <Id name="Trace" value={row.traceId} />
        <Id name="Instance" value={row.instanceId} />
        <Id name="Row" value={row.id} />
      </Facts>
      <div className={classes.more}>
        <LinkButton
          to="/logs"
          search={{ service: row.service, method: row.method }}
          variant="default"
          size="xs"
        >
          Calls of this method
        </LinkButton>
        {row.apiKeyId !== "" && (
          <LinkButton to="/logs" search={{ key: row.apiKeyId }} variant="default" size="xs">
            Calls of this key
          </LinkButton>
        )}
        <LinkButton to="/logs" search={{ address: row.peerAddress }} variant="default" size="xs">
          Calls from this address
        </LinkButton>
      </div>
    </Stack>
  );
}

/** Whether another setting of the key would let the call in. */
function isMended(reason: DenialReason): boolean {
  return [DenialReason.METHOD_NOT_ALLOWED, DenialReason.ADDRESS_NOT_ALLOWED, DenialReason.EXPIRED].includes(
    reason,
  );
}

function Id({ name, value }: { name: string; value: string }) {
  if (value === "") return null;
  return (
    <Fact name={name}>
      <span className={classes.id}>
        <code>{value}</code>
        <CopyButton value={value} label={`Copy: ${name.toLowerCase()}`} />
      </span>
    </Fact>
  );
}
