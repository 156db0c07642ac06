/** What makes the most requests in the range. */
import { Link, type LinkProps } from "@tanstack/react-router";
import { StatsDimension, StatsService } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { useKeysById, useUsersById } from "../../parts/names.ts";
import type { Range } from "../../parts/range.ts";
import { useRanged } from "../../parts/use-ranged.ts";
import { Bars } from "./bars.tsx";

const limit = 7;

function useTop(range: Range, groupBy: StatsDimension) {
  const { data, error, refetch } = useRanged(StatsService.method.getBreakdown, range, { groupBy, limit });
  return { groups: data?.groups, error: data === undefined ? error : null, retry: () => void refetch() };
}

export function TopKeys({ range }: { range: Range }) {
  const top = useTop(range, StatsDimension.KEY);
  const names = useKeysById((top.groups ?? []).map(({ group }) => group?.apiKeyId ?? ""));
  return (
    <Bars
      {...top}
      label="Keys with the most requests"
      nameOf={({ apiKeyId = "" }) => {
        if (apiKeyId === "") return { name: "Without a key" };
        const key = names.get(apiKeyId);
        const link: LinkProps = { to: "/keys/$id", params: { id: apiKeyId } };
        return {
          name: <Link {...link}>{key?.name ?? <code>{apiKeyId.slice(0, 13)}…</code>}</Link>,
          ...(key === undefined ? {} : { more: key.username }),
        };
      }}
    />
  );
}

export function TopMethods({ range }: { range: Range }) {
  const top = useTop(range, StatsDimension.METHOD);
  return (
    <Bars
      {...top}
      label="Methods with the most requests"
      nameOf={({ service = "", method = "" }) => ({
        name: (
          <Link to="/logs" search={{ service, method }}>
            {method}
          </Link>
        ),
        more: service,
      })}
    />
  );
}

export function TopUsers({ range }: { range: Range }) {
  const top = useTop(range, StatsDimension.USER);
  const names = useUsersById((top.groups ?? []).map(({ group }) => group?.userId ?? 0n));
  return (
    <Bars
      {...top}
      label="Users with the most requests"
      nameOf={({ userId = 0n }) => {
        if (userId === 0n) return { name: "Anonymous" };
        return {
          name: (
            <Link to="/keys" search={{ user: String(userId) }}>
              {names.get(userId)?.username ?? `User ${userId}`}
            </Link>
          ),
        };
      }}
    />
  );
}
