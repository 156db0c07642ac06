/** One change: its fields as they were and as they became. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Drawer, Stack } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { AuditEvent } from "../../../../gen/latchkey/v1/audit_log_service_pb.js";
import { CopyButton } from "../../parts/copy-button.tsx";
import { Fact, Facts } from "../../parts/facts.tsx";
import { Time } from "../../parts/time.tsx";
import classes from "./audit.module.css";
import { keyName, type Names, userName } from "./columns.tsx";
import { actionWords } from "./search.ts";

interface EventDrawerProps {
  readonly event: AuditEvent | undefined;
  readonly names: Names;
  readonly onClose: () => void;
}

export function EventDrawer({ event, names, onClose }: EventDrawerProps) {
  const title = event === undefined ? "Change" : (actionWords[event.action] ?? event.action);
  return (
    <Drawer opened={event !== undefined} onClose={onClose} title={title} size={560}>
      {event !== undefined && <EventDetails event={event} names={names} />}
    </Drawer>
  );
}

function EventDetails({ event, names }: { event: AuditEvent; names: Names }) {
  const userLink = (id: bigint) =>
    id === 0n ? (
      userName(id, names)
    ) : (
      <Link to="/users/$id" params={{ id: String(id) }}>
        {userName(id, names)}
      </Link>
    );
  const keyLink = (id: string, of: Pick<AuditEvent, "before" | "after">) => (
    <Link to="/keys/$id" params={{ id }}>
      {keyName(id, names, of)}
    </Link>
  );
  return (
    <Stack gap="lg">
      <Facts>
        <Fact name="When">
          <Time value={event.time} as="full" />
        </Fact>
        <Fact name="By">
          {userLink(event.actorUserId)}
          {event.actorApiKeyId !== "" && (
            <>
              <span className="dim">with</span> {keyLink(event.actorApiKeyId, {})}
            </>
          )}
        </Fact>
        {event.targetUserId !== 0n && <Fact name="User">{userLink(event.targetUserId)}</Fact>}
        {event.targetApiKeyId !== "" && <Fact name="Key">{keyLink(event.targetApiKeyId, event)}</Fact>}
        <Fact name="From">
          {event.peerAddress === "" ? (
            <span className="dim">Not over RPC</span>
          ) : (
            <code>{event.peerAddress}</code>
          )}
        </Fact>
        {event.requestId !== "" && (
          <Fact name="Request id">
            <code>{event.requestId}</code>
            <CopyButton value={event.requestId} label="Copy the request id" />
          </Fact>
        )}
      </Facts>
      <Changes before={event.before ?? {}} after={event.after ?? {}} />
    </Stack>
  );
}

function Changes({ before, after }: { before: JsonObject; after: JsonObject }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  if (names.length === 0) return <p className="dim">No field changed.</p>;
  return (
    <table className={classes.changes} aria-label="Changed fields">
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Before</th>
          <th scope="col">After</th>
        </tr>
      </thead>
      <tbody>
        {names.map((name) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td className={classes.before}>{shown(before[name])}</td>
            <td className={classes.after}>{shown(after[name])}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function shown(value: JsonValue | undefined): string {
  if (value === undefined || value === null || value === "") return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}
