import { Link } from "@tanstack/react-router";
import type { ApiKey } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import type { AuditEvent } from "../../../../gen/latchkey/v1/audit_log_service_pb.js";
import type { User } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import type { Column } from "../../parts/data-table/column.ts";
import { rowLink } from "../../parts/data-table/data-table.tsx";
import { Time } from "../../parts/time.tsx";
import { actionWords } from "./search.ts";

export interface Names {
  readonly users: ReadonlyMap<bigint, Pick<User, "username">>;
  readonly keys: ReadonlyMap<string, ApiKey>;
}

export function userName(id: bigint, { users }: Names): string {
  return id === 0n ? "The server" : (users.get(id)?.username ?? `User ${id}`);
}

/** The key's name now; what is gone goes by what the event itself tells, else by its id. */
export function keyName(
  id: string,
  { keys }: Names,
  { before, after }: Pick<AuditEvent, "before" | "after">,
) {
  const told = after?.name ?? before?.name;
  return keys.get(id)?.name ?? (typeof told === "string" ? told : `${id.slice(0, 8)}…`);
}

/** What was changed, in a few words. */
function changed({ before = {}, after = {} }: AuditEvent): string {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names.length > 6 ? `${names.slice(0, 6).join(", ")} …` : names.join(", ");
}

export function auditColumns(names: Names): readonly Column<AuditEvent>[] {
  return [
    {
      id: "action",
      header: "What",
      width: "16%",
      cell: ({ id, action }) => (
        <Link from="/audit" search={(old) => ({ ...old, row: String(id) })} className={`${rowLink} clip`}>
          {actionWords[action] ?? action}
        </Link>
      ),
    },
    {
      id: "target",
      header: "Key or user",
      width: "24%",
      cell: (event) => (
        <span className="clip">
          {event.targetApiKeyId === "" ? (
            userName(event.targetUserId, names)
          ) : (
            <>
              {keyName(event.targetApiKeyId, names, event)}{" "}
              <span className="dim">of {userName(event.targetUserId, names)}</span>
            </>
          )}
        </span>
      ),
    },
    {
      id: "actor",
      header: "By",
      width: "14%",
      cell: ({ actorUserId }) => <span className="clip">{userName(actorUserId, names)}</span>,
    },
    {
      id: "changed",
      header: "Fields",
      width: "28%",
      only: "wide",
      cell: (event) => <span className="clip dim">{changed(event)}</span>,
    },
    {
      id: "address",
      header: "From",
      only: "widest",
      cell: ({ peerAddress }) => <code>{peerAddress || "–"}</code>,
    },
    { id: "time", header: "Time", align: "end", cell: ({ time }) => <Time value={time} /> },
  ];
}
