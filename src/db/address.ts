/** Where a database is, and what is needed to connect to it. */
import postgres from "postgres";
import { hostsOf } from "./database-url.ts";
import type { Place } from "./dial.ts";

/**
 * A URL, of one host or several; a program's own client, which is only read, never used; or the
 * socket of the embedded database.
 */
export type DatabaseAddress =
  | { readonly url: string }
  | { readonly client: postgres.Sql }
  | { readonly host: string; readonly port: number; readonly database: string; readonly username: string };

type Settings = postgres.Options<Record<string, postgres.PostgresType>>;

/** One of the hosts at an address. */
export interface DatabaseHost {
  /** Opens a client of this host alone, with these settings besides. */
  readonly open: (settings: Settings) => postgres.Sql;
  /** Undefined: the program's client makes sockets of its own, and so do those opened here. */
  readonly place: Place | undefined;
  /** What a program's client says of its sessions. */
  readonly own?: Pick<postgres.ParsedOptions, "connection" | "prepare">;
}

/** The hosts at an address, at least one. */
export function hostsAt(address: DatabaseAddress): [DatabaseHost, ...DatabaseHost[]] {
  if ("url" in address) {
    return hostsOf(address.url).map(({ url, place }) => ({
      open: (settings: Settings) => postgres(url, settings),
      place,
    })) as [DatabaseHost, ...DatabaseHost[]];
  }
  if ("client" in address) return hostsOfClient(address.client);
  const path = `${address.host}/.s.PGSQL.${address.port}`;
  return [{ open: (settings) => postgres({ ...settings, ...address }), place: { path } }];
}

/** What postgres.js has read out of its options and environment, where its types leave something out. */
type ReadOptions = Omit<postgres.ParsedOptions, "path" | "pass" | "socket" | "sslnegotiation"> & {
  path: string | false;
  pass: string | (() => string | Promise<string>);
  socket: unknown;
  sslnegotiation: unknown;
};

/**
 * What says where a client connects and as whom is taken over: hosts, database, user, password (also
 * a function that is asked each time), TLS, sockets and the settings of its sessions. What says how it
 * reads and writes values is not: Drizzle sets that for itself.
 */
function hostsOfClient(client: postgres.Sql): [DatabaseHost, ...DatabaseHost[]] {
  const given = client.options as unknown as ReadOptions;
  const { database, user, pass, ssl, sslnegotiation, socket, connection, prepare } = given;
  const own = { connection, prepare };
  const session = { database, user, pass, ssl, sslnegotiation };
  const openAt = (where: object) => (settings: Settings) =>
    postgres({ ...session, ...where, ...settings } as Settings);
  if (socket !== undefined) {
    return [{ open: openAt({ host: given.host, port: given.port, socket }), place: undefined, own }];
  }
  if (given.path) return [{ open: openAt({ path: given.path }), place: { path: given.path }, own }];
  return given.host.map((host, i) => {
    const place = { host, port: given.port[i] ?? 5432 };
    return { open: openAt(place), place, own };
  }) as [DatabaseHost, ...DatabaseHost[]];
}

/** The URL of an address: what another process reaches the same database by. Throws for a program's client. */
export function urlOf(address: DatabaseAddress): string {
  if ("url" in address) return address.url;
  if ("client" in address) throw new Error("the client of a program has no URL");
  const { host, port, database, username } = address;
  return `postgres://${username}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`;
}

/** For people: the hosts and the database at an address, without user and password. */
export function describeAddress(address: DatabaseAddress): string {
  if ("client" in address) {
    const { host, port, database } = address.client.options;
    return `Postgres at ${host.map((name, i) => `${name}:${port[i]}`).join(",")}, database ${database}`;
  }
  const [, hosts = "", name = ""] =
    urlOf(address).match(/^postgres(?:ql)?:\/\/(?:[^@/]*@)?([^/?]*)\/?([^?]*)/) ?? [];
  return `Postgres at ${hosts || "localhost"}${name && `, database ${name}`}`;
}
