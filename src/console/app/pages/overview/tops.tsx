/** What makes the most requests in the range. */
import { Link } from "@tanstack/react-router";
import {
  type StatsBreakdown,
  StatsDimension,
  StatsService,
} from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { type Bar, Bars } from "../../parts/bars.tsx";
import { useKeysById, useUsersById } from "../../parts/names.ts";
import type { Range } from "../../parts/range.ts";
import { useRanged } from "../../parts/use-ranged.ts";

const limit = 7;

function useTop(range: Range, groupBy: StatsDimension) {
  const { data, error, refetch } = useRanged(StatsService.method.getBreakdown, range, { groupBy, limit });
  return { groups: data?.groups, error: data === undefined ? error : null, retry: () => void refetch() };
}

const numbersOf = ({ stats }: StatsBreakdown) => ({
  count: stats?.requests ?? 0n,
  rate: stats?.errorRate ?? 0,
});

export function TopKeys({ range }: { range: Range }) {
  const { groups, ...top } = useTop(range, StatsDimension.KEY);
  const keys = useKeysById((groups ?? []).map(({ group }) => group?.apiKeyId ?? ""));
  const known = (groups ?? []).map(({ group }) => keys.get(group?.apiKeyId ?? "")?.name);
  const bars = groups?.map((each): Bar => {
    const id = each.group?.apiKeyId ?? "";
    if (id === "") return { ...numbersOf(each), key: id, name: "Without a key" };
    const key = keys.get(id);
    // A key and the one that replaced it have the same name.
    const isShared = known.filter((name) => name === key?.name).length > 1;
    return {
      ...numbersOf(each),
      key: id,
      name: (
        <Link to="/keys/$id" params={{ id }}>
          {key?.name ?? <code>{id.slice(0, 13)}…</code>}
        </Link>
      ),
      ...(key === undefined ? {} : { more: isShared ? `${key.start}… · ${key.username}` : key.username }),
    };
  });
  return <Bars {...top} bars={bars} label="Keys with the most requests" />;
}

export function TopMethods({ range }: { range: Range }) {
  const { groups, ...top } = useTop(range, StatsDimension.METHOD);
  const bars = groups?.map((each): Bar => {
    const { service = "", method = "" } = each.group ?? {};
    return {
      ...numbersOf(each),
      key: `${service}/${method}`,
      name: (
        <Link to="/logs" search={{ service, method }}>
          {method}
        </Link>
      ),
      more: service,
    };
  });
  return <Bars {...top} bars={bars} label="Methods with the most requests" />;
}

export function TopUsers({ range }: { range: Range }) {
  const { groups, ...top } = useTop(range, StatsDimension.USER);
  const names = useUsersById((groups ?? []).map(({ group }) => group?.userId ?? 0n));
  const bars = groups?.map((each): Bar => {
    const id = each.group?.userId ?? 0n;
    if (id === 0n) return { ...numbersOf(each), key: "", name: "Anonymous" };
    return {
      ...numbersOf(each),
      key: String(id),
      name: (
        <Link to="/keys" search={{ user: String(id) }}>
          {names.get(id)?.username ?? `User ${id}`}
        </Link>
      ),
    };
  });
  return <Bars {...top} bars={bars} label="Users with the most requests" />;
}
