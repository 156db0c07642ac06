import { Link } from "@tanstack/react-router";
import type { ApiKey } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { Badge, KeyStatusBadge } from "../../parts/badge.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { rowLink } from "../../parts/data-table/data-table.tsx";
import { Expiry } from "../../parts/expiry.tsx";
import { formatCount } from "../../parts/format.ts";
import { Time } from "../../parts/time.tsx";
import { keyTypeWords } from "../../parts/words.ts";
import classes from "./keys.module.css";

const name: Column<ApiKey> = {
  id: "name",
  header: "Name",
  sort: "ascending",
  width: "22%",
  cell: (key) => (
    <div className={classes.name}>
      <Link to="/keys/$id" params={{ id: key.id }} className={`${rowLink} clip`} title={key.name}>
        {key.name}
      </Link>
      {key.rotatedTo !== "" && <Badge title="Another key has replaced this one">Rotated</Badge>}
    </div>
  ),
};

const user: Column<ApiKey> = {
  id: "user",
  header: "User",
  width: "12%",
  cell: (key) => (
    <span className="clip" title={key.username}>
      {key.username}
    </span>
  ),
};

const others: readonly Column<ApiKey>[] = [
  { id: "status", header: "Status", cell: ({ status }) => <KeyStatusBadge status={status} /> },
  { id: "type", header: "Type", only: "wide", cell: ({ type }) => keyTypeWords[type] },
  {
    id: "start",
    header: "Start",
    only: "wide",
    cell: ({ start }) => <code>{start === "" ? "–" : start}</code>,
  },
  {
    id: "requests",
    header: "Requests",
    align: "end",
    sort: "descending",
    cell: ({ requestCount }) => formatCount(requestCount),
  },
  {
    id: "lastUsed",
    header: "Last used",
    sort: "descending",
    cell: ({ lastUsedAt }) => <Time value={lastUsedAt} none="Never" />,
  },
  { id: "expires", header: "Expires", sort: "ascending", cell: (key) => <Expiry of={key} /> },
  {
    id: "created",
    header: "Created",
    sort: "descending",
    only: "widest",
    cell: ({ createdAt }) => <Time value={createdAt} />,
  },
];

/** Who is not staff sees only their own keys: no column for the user. */
export function keyColumns(isStaff: boolean): readonly Column<ApiKey>[] {
  const [status, type, ...rest] = others;
  return [name, status!, type!, ...(isStaff ? [user] : []), ...rest];
}
