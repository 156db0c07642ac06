/** What stands in a Postgres URL, where postgres.js reads it otherwise than libpq does. */
import type { Place } from "./dial.ts";

/** One of the hosts that a URL names. */
export interface UrlHost {
  /** For postgres.js: the URL with this host alone. */
  readonly url: string;
  readonly place: Place;
}

/**
 * Takes a URL apart by its hosts: `host1:5432,host2`, an IPv6 address in brackets, and
 * `?host=/directory` for a server on a unix socket. At least one.
 *
 * Of several it is always the one that takes writes that is wanted, whatever
 * `target_session_attrs` says: nothing here can be done on a standby.
 */
export function hostsOf(url: string): UrlHost[] {
  const [, scheme = "", user = "", hosts = "", rest = ""] =
    url.match(/^(postgres(?:ql)?:\/\/)([^@/?]*@)?([^/?]*)(.*)$/i) ?? [];
  const [path = "", query] = rest.split("?", 2);
  const params = new URLSearchParams(query);
  const directory = params.get("host");
  const names = hosts.split(",");
  if (directory?.startsWith("/")) params.delete("host");
  if (names.length > 1) params.delete("target_session_attrs");
  const search = params.size > 0 ? `?${params}` : "";
  return names.map((name) => {
    const [, host = "", portText] = name.match(/^(\[.*\]|[^:]*)(?::(\d+))?$/) ?? [];
    const port = Number(portText ?? 5432);
    const bare = host.replace(/^\[|\]$/g, "") || "localhost";
    return {
      // Where it connects is decided by the place; the name is for its messages.
      url: `${scheme}${user}${bare.includes(":") ? "localhost" : bare}:${port}${path}${search}`,
      place: directory?.startsWith("/") ? { path: `${directory}/.s.PGSQL.${port}` } : { host: bare, port },
    };
  });
}
