/** Where a database is, and what is needed to connect to it. */
import postgres from "postgres";
import { hostsOf } from "./database-url.ts";
import type { Place } from "./dial.ts";
import type { TlsSettings } from "./tls.ts";

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
  readonly tls: TlsSettings;
  /** Asked for each connection, where a program's client has a function. */
  readonly password?: () => string | Promise<string>;
  /** What a program's client says of its sessions. */
  readonly own?: Pick<postgres.ParsedOptions, "connection" | "prepare">;
}

/** The hosts at an address, at least one. */
export function hostsAt(address: DatabaseAddress): [DatabaseHost, ...DatabaseHost[]] {
  if ("url" in address) {
    return hostsOf(address.url).map(
      ({ url, place }): DatabaseHost => ({
        open: (settings: Settings) => postgres(url, settings),
        place,
        tls: tlsOf(url),
      }),
    ) as [DatabaseHost, ...DatabaseHost[]];
  }
  if ("client" in address) return hostsOfClient(address.client);
  const path = `${address.host}/.s.PGSQL.${address.port}`;
  return [
    {
      open: (settings) => postgres({ ...settings, ...address }),
      place: { path },
      tls: { ssl: false, sslnegotiation: undefined },
    },
  ];
}

/** What postgres.js has read out of its options and environment, where its types leave something out. */
type ReadOptions = Omit<postgres.ParsedOptions, "path" | "pass" | "socket" | keyof TlsSettings> &
  TlsSettings & {
    path: string | false;
    pass: string | (() => string | Promise<string>);
    socket: unknown;
  };

function readOptions(client: postgres.Sql): ReadOptions {
  return client.options as unknown as ReadOptions;
}

function tlsOf(url: string): TlsSettings {
  // It connects when first used: this one never is.
  const { ssl, sslnegotiation } = readOptions(postgres(url, { max: 1 }));
  return { ssl, sslnegotiation };
}

/**
 * What says where a client connects and as whom is taken over: hosts, database, user, password (also
 * a function that is asked each time), TLS, sockets and the settings of its sessions. What says how it
 * reads and writes values is not: Drizzle sets that for itself.
 */
function hostsOfClient(client: postgres.Sql): [DatabaseHost, ...DatabaseHost[]] {
  const given = readOptions(client);
  const { database, user, pass, ssl, sslnegotiation, socket, connection, prepare } = given;
  const own = { connection, prepare };
  const tls = { ssl, sslnegotiation };
  const asked = typeof pass === "function" && { password: pass };
  const session = { database, user, pass, ...tls };
  const openAt = (where: object) => (settings: Settings) =>
    postgres({ ...session, ...where, ...settings } as Settings);
  if (socket !== undefined) {
    return [{ open: openAt({ host: given.host, port: given.port, socket }), place: undefined, tls, own }];
  }
  if (given.path)
    return [{ open: openAt({ path: given.path }), place: { path: given.path }, tls, own, ...asked }];
  return given.host.map((host, i) => {
    const place = { host, port: given.port[i] ?? 5432 };
    return { open: openAt(place), place, tls, own, ...asked };
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
