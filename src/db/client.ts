/** Connections to Postgres, and Drizzle over them. */
import { makePgArray } from "drizzle-orm/pg-core";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import type postgres from "postgres";
import { parse as parseArray } from "postgres-array";
import { type DatabaseAddress, type DatabaseHost, hostsAt } from "./address.ts";
import { createDialer, type Dialer, type Place } from "./dial.ts";
import { surviveLostConnections } from "./lost-connection.ts";
import { findPrimary } from "./primary.ts";

/** A client, and how many connections it has open; undefined where it is not known. */
export type Client = postgres.Sql & { readonly connections: () => number | undefined };

export type Database = PostgresJsDatabase<Record<string, never>>;
/** What a statement runs on: the database or a transaction of it. */
export type Executor = Pick<Database, "select" | "insert" | "update" | "delete" | "execute">;

/** Runs a change of keys, users or sessions in a transaction of its own. Resolves once it is committed and applies here. */
export type Transact = <T>(change: (tx: Executor) => Promise<T>) => Promise<T>;

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

const connectTimeoutMs = 5_000;
/** From the end of a statement's time until its answer is here, at most. */
const answerMs = 5_000;

/**
 * The types of the arrays that statements take and give: smallint[], integer[], text[], bigint[],
 * inet[] and uuid[] (`pg_type.typarray`). By default postgres.js asks for all there are on each new
 * connection; where that is lost meanwhile its question rejects in a place where nobody can catch it.
 */
const arrays = Object.fromEntries(
  Object.entries({ 1005: Number, 1007: Number, 1009: String, 1016: String, 1041: String, 2951: String }).map(
    ([oid, parseOne]: [string, (text: string) => unknown]) => [
      oid,
      {
        to: Number(oid),
        from: [Number(oid)],
        serialize: serializeArray,
        parse: (literal: string) => parseArray(literal, parseOne),
      },
    ],
  ),
);

/** A text is the literal of an array already. */
function serializeArray(array: unknown[] | string): string {
  return typeof array === "string" ? array : makePgArray(array);
}

/**
 * Opens a postgres.js client. It connects when first used and again, within a
 * second, after the connection was lost, or was silent for longer than a statement may
 * take and its answer needs. Of several hosts it connects to the one that takes writes.
 */
export function connect(address: DatabaseAddress, options: ConnectOptions): Client {
  return connectTo(hostsAt(address), options);
}

function connectTo(hosts: readonly [DatabaseHost, ...DatabaseHost[]], options: ConnectOptions): Client {
  const [{ open, place, tls, password, own }] = hosts;
  const settings: postgres.Options<Record<string, postgres.PostgresType>> = {
    max: options.max,
    connect_timeout: connectTimeoutMs / 1000,
    // The default waits up to 20 s between tries: an outage would last that much longer.
    backoff: (tries) => Math.min(1, 0.05 * 2 ** tries),
    onnotice: () => {},
    fetch_types: false,
    types: arrays,
    ...(options.onNotification && { onnotify: options.onNotification, max_lifetime: null }),
    ...(options.onClose && { onclose: options.onClose }),
    prepare: !options.pooled && own?.prepare !== false,
    connection: {
      ...own?.connection,
      application_name: `latchkey ${options.purpose}`,
      ...(!options.pooled && {
        statement_timeout: options.statementTimeoutMs,
        idle_in_transaction_session_timeout: 10_000,
      }),
    },
  };
  // Whoever gave sockets of their own knows better how to connect.
  if (place === undefined)
    return surviveLostConnections(Object.assign(open(settings), { connections: () => undefined }));
  const find = hosts.length === 1 ? async () => place : placeFinder(hosts);
  let pass: string | undefined;
  const dialer = createDialer({
    async find() {
      // Asked by postgres.js itself, a connection that ends meanwhile would end the process.
      if (password !== undefined) pass = await password();
      return find();
    },
    tls,
    connectTimeoutMs,
    // A statement that Postgres itself gives up is answered.
    silenceMs: options.statementTimeoutMs + Math.min(answerMs, options.statementTimeoutMs / 2),
  });
  // Of its own too, which its types leave out. They come with their TLS.
  Object.assign(settings, { socket: dialer.dial, ssl: false });
  if (password !== undefined) Object.assign(settings, { pass: () => pass });
  return surviveLostConnections(closeWith(open(settings), dialer));
}

/** Where to connect: of several hosts, to the one that takes writes now. */
function placeFinder(hosts: readonly DatabaseHost[]): () => Promise<Place> {
  const find = findPrimary(hosts, async (host) => {
    const client = connectTo([host], { max: 1, purpose: "primary", statementTimeoutMs: 2000 });
    try {
      const [row] = await client`
        SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only`;
      return row?.read_only === false;
    } finally {
      await client.end({ timeout: 0 });
    }
  });
  return async () => (await find()).place!;
}

/** Once it has ended, nothing of a client is left, not even what it was just connecting. */
function closeWith(client: postgres.Sql, dialer: Dialer): Client {
  const end = client.end.bind(client);
  return Object.assign(client, {
    end: (options?: { timeout?: number }) => end(options).finally(() => dialer.close()),
    connections: () => dialer.size,
  });
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
