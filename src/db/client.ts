/** Connections to Postgres, and Drizzle over them. */
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";

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
  /** Milliseconds after which Postgres gives a statement up; 0: never. */
  statementTimeoutMs: number;
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
    connection: {
      application_name: `latchkey ${options.purpose}`,
      statement_timeout: options.statementTimeoutMs,
      idle_in_transaction_session_timeout: 10_000,
    },
  };
  if (!("url" in address)) return postgres({ ...settings, ...address });
  const { url, socketDirectory } = splitSocket(address.url);
  return postgres(url, socketDirectory === undefined ? settings : { ...settings, host: socketDirectory });
}

/** Takes `?host=/directory` out of a URL, as libpq has it for a server on a unix socket. */
function splitSocket(url: string): { url: string; socketDirectory: string | undefined } {
  const [base = "", query] = url.split("?", 2);
  const params = new URLSearchParams(query);
  const host = params.get("host");
  if (host === null || !host.startsWith("/")) return { url, socketDirectory: undefined };
  params.delete("host");
  return { url: `${base}?${params}`, socketDirectory: host };
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
