/** Connections to Postgres, and Drizzle over them. */
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { surviveLostConnections } from "./lost-connection.ts";

/** Where a database is: a URL, or the socket of the embedded one. */
export type DatabaseAddress =
  | { readonly url: string }
  | { readonly host: string; readonly port: number; readonly database: string; readonly username: string };

export type Database = PostgresJsDatabase<Record<string, never>>;
/** What a statement runs on: the database or a transaction of it. */
export type Executor = Pick<Database, "select" | "insert" | "update" | "delete" | "execute">;

export interface ConnectOptions {
  /** Connections at most. */
  max: number;
  /** Shown in pg_stat_activity after "latchkey". */
  purpose: string;
  /** Milliseconds after which Postgres gives a statement up; 0: never. Not through a pooler. */
  statementTimeoutMs: number;
  /** Through a transaction pooler, which takes neither named statements nor settings of a session. */
  pooled?: boolean;
  /** For a client that runs LISTEN itself, rather than postgres.js's own, which reconnects even after its end. */
  onNotification?: (channel: string, payload: string) => void;
  /** A connection ended. */
  onClose?: () => void;
}

/**
 * Opens a postgres.js client. It connects when first used and again, within a
 * second, after the connection was lost.
 */
export function connect(address: DatabaseAddress, options: ConnectOptions): postgres.Sql {
  const settings: postgres.Options<Record<string, postgres.PostgresType>> = {
    max: options.max,
    connect_timeout: 5,
    // The default waits up to 20 s between tries: an outage would last that much longer.
    backoff: (tries) => Math.min(1, 0.05 * 2 ** tries),
    onnotice: () => {},
    ...(options.onNotification && { onnotify: options.onNotification, max_lifetime: null }),
    ...(options.onClose && { onclose: options.onClose }),
    prepare: !options.pooled,
    connection: {
      application_name: `latchkey ${options.purpose}`,
      ...(!options.pooled && {
        statement_timeout: options.statementTimeoutMs,
        idle_in_transaction_session_timeout: 10_000,
      }),
    },
  };
  if (!("url" in address)) return surviveLostConnections(postgres({ ...settings, ...address }));
  const { url, ...place } = locate(address.url);
  return surviveLostConnections(postgres(url, { ...settings, ...place }));
}

/**
 * The host of a URL where postgres.js would not find it: `?host=/directory`, as
 * libpq has it for a server on a unix socket, and an IPv6 address in brackets.
 */
function locate(url: string): { url: string; host?: string; port?: number } {
  const [, address, port] =
    url.match(/^postgres(?:ql)?:\/\/(?:[^@/?]*@)?\[([0-9a-f:.]+)\](?::(\d+))?/i) ?? [];
  if (address !== undefined) {
    // In arrays, which its types do not know: postgres.js would take a single host apart at its colons.
    const place = { host: [address], port: [Number(port ?? 5432)] } as unknown as {
      host: string;
      port: number;
    };
    return { url: url.replace(/\[[^\]]*\]/, "localhost"), ...place };
  }
  const [base = "", query] = url.split("?", 2);
  const params = new URLSearchParams(query);
  const directory = params.get("host");
  if (directory === null || !directory.startsWith("/")) return { url };
  params.delete("host");
  return { url: `${base}?${params}`, host: directory };
}

/** Drizzle over a client. */
export function database(client: postgres.Sql): Database {
  return drizzle(client);
}

/** The SQLSTATE of a Postgres error, however deep Drizzle wrapped it; undefined for other errors. */
export function sqlState(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ("code" in e && typeof e.code === "string" && /^[0-9A-Z]{5}$/.test(e.code)) return e.code;
  }
  return undefined;
}
