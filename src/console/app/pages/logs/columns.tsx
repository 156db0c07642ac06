import { Link } from "@tanstack/react-router";
import type { ApiKey } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import type { RequestLog } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import type { User } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { CredentialKind } from "../../../../gen/latchkey/v1/verdict_pb.js";
import { addressColumn, codeColumn, durationColumn, errorColumn } from "../../parts/call-columns.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { rowLink } from "../../parts/data-table/data-table.tsx";
import { Time } from "../../parts/time.tsx";
import { credentialWords } from "../../parts/words.ts";
import type { LogsSearch } from "./search.ts";

export interface Names {
  readonly keys: ReadonlyMap<string, ApiKey>;
  readonly users: ReadonlyMap<bigint, Pick<User, "username">>;
}

/** By which key, or by what else, a call was signed in. */
export function keyName(
  { apiKeyId, credentialKind }: RequestLog,
  { keys }: Pick<Names, "keys"> & Partial<Names>,
): string {
  if (apiKeyId !== "") return keys.get(apiKeyId)?.name ?? `${apiKeyId.slice(0, 8)}…`;
  return credentialKind === CredentialKind.NONE ? "None" : credentialWords[credentialKind];
}

/** Columns that say the same in each row, being filtered by, are left out. */
export function logColumns(
  names: Names,
  isStaff: boolean,
  filters: Pick<LogsSearch, "key" | "user">,
): readonly Column<RequestLog>[] {
  const key: Column<RequestLog> = {
    id: "key",
    header: "Key",
    width: "13%",
    cell: (row) => (
      <span className={`clip ${row.apiKeyId === "" ? "dim" : ""}`} title={keyName(row, names)}>
        {keyName(row, names)}
      </span>
    ),
  };
  const user: Column<RequestLog> = {
    id: "user",
    header: "User",
    width: "9%",
    cell: ({ userId }) =>
      userId === 0n ? (
        <span className="dim">Anonymous</span>
      ) : (
        <span className="clip">{names.users.get(userId)?.username ?? `User ${userId}`}</span>
      ),
  };
  return [
    {
      id: "method",
      header: "Method",
      width: "27%",
      cell: ({ id, service, method }) => (
        <Link
          from="/logs"
          search={(old) => ({ ...old, row: id })}
          className={`${rowLink} clip`}
          title={`${service}/${method}`}
        >
          {method} <span className="dim">{service}</span>
        </Link>
      ),
    },
    { id: "time", header: "Time", cell: ({ time }) => <Time value={time} as="clock" /> },
    codeColumn,
    durationColumn,
    ...(filters.key === undefined ? [key] : []),
    // A key has one user.
    ...(isStaff && filters.key === undefined && filters.user === undefined ? [user] : []),
    { ...errorColumn, width: "33%", only: "wide" },
    { ...addressColumn, only: "widest" },
  ];
}
