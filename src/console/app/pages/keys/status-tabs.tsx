import { useQuery } from "@connectrpc/connect-query";
import { keepPreviousData } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ApiKeyService } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { formatCompact } from "../../parts/format.ts";
import classes from "./keys.module.css";
import { countRequest, type KeysSearch, type StatusName } from "./search.ts";

/** The statuses with how many keys each has under the other filters. */
export function StatusTabs({ search }: { search: KeysSearch }) {
  const { data } = useQuery(ApiKeyService.method.countApiKeys, countRequest(search), {
    placeholderData: keepPreviousData,
    // They do not hold for keys that are chosen by days.
    enabled: search.attention === undefined,
  });
  const counts = search.attention === undefined ? data : undefined;
  const tabs: readonly [StatusName | undefined, string, bigint | undefined][] = [
    [undefined, "All", counts && counts.active + counts.expired + counts.revoked],
    ["active", "Active", counts?.active],
    ["expired", "Expired", counts?.expired],
    ["revoked", "Revoked", counts?.revoked],
  ];
  return (
    <nav className={classes.tabs} aria-label="Status">
      {tabs.map(([status, word, count]) => (
        <Link
          key={word}
          to="/keys"
          search={{ ...search, status, page: undefined }}
          className={classes.tab}
          data-current={search.status === status}
          // By the path alone each of them would be the current one.
          activeProps={{ "aria-current": search.status === status ? "true" : undefined }}
        >
          {word}
          {count !== undefined && <span className={classes.count}>{formatCompact(count)}</span>}
        </Link>
      ))}
    </nav>
  );
}
