import { useMutation, useQuery } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type Session, SessionService } from "../../../../gen/latchkey/v1/session_service_pb.js";
import { Badge } from "../../parts/badge.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { useLiveInterval } from "../../parts/live.ts";
import { notifyDone, notifyError } from "../../parts/notify.ts";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { Time } from "../../parts/time.tsx";

/** Browsers that the user is signed in with. */
export function Sessions({ userId }: { userId: bigint }) {
  const { data, error, refetch } = useQuery(
    SessionService.method.listSessions,
    { userId, pageSize: 100 },
    { refetchInterval: useLiveInterval(15_000) },
  );
  return (
    <Panel title="Signed-in browsers" flush>
      {error !== null && data === undefined ? (
        <QueryError error={error} onRetry={() => void refetch()} />
      ) : (
        <DataTable
          label="Signed-in browsers"
          columns={columns}
          rows={data?.sessions}
          rowKey={({ id }) => id}
          expected={2}
          empty={
            <EmptyState title="Not signed in anywhere">Sessions of this console are listed here.</EmptyState>
          }
        />
      )}
    </Panel>
  );
}

const columns: readonly Column<Session>[] = [
  {
    id: "agent",
    header: "Browser",
    width: "44%",
    cell: ({ userAgent, current }) => (
      <span className="clip" title={userAgent}>
        {current && (
          <>
            <Badge tone="good">This one</Badge>{" "}
          </>
        )}
        {userAgent === "" ? "Not told" : userAgent}
      </span>
    ),
  },
  { id: "address", header: "Address", cell: ({ peerAddress }) => <code>{peerAddress}</code> },
  { id: "created", header: "Signed in", cell: ({ createdAt }) => <Time value={createdAt} /> },
  { id: "seen", header: "Last used", only: "wide", cell: ({ seenAt }) => <Time value={seenAt} /> },
  { id: "end", header: "", align: "end", cell: (session) => <EndButton session={session} /> },
];

function EndButton({ session }: { session: Session }) {
  const client = useQueryClient();
  const revoke = useMutation(SessionService.method.revokeSession);
  return (
    <Button
      variant="default"
      size="xs"
      loading={revoke.isPending}
      aria-label={`End the session from ${session.peerAddress}`}
      onClick={() =>
        revoke
          .mutateAsync({ id: session.id })
          .then(() => notifyDone("The session has ended."))
          .catch((error: unknown) => notifyError("The session was not ended", error))
          .finally(() => client.invalidateQueries())
      }
    >
      End
    </Button>
  );
}
