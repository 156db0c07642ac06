/** Every setting: its name, default, unit and check. Nothing else reads the environment. */

import { clientNames } from "./config-client.ts";
import {
  addresses,
  boolean,
  ConfigError,
  databaseUrl,
  integer,
  listOf,
  matching,
  type Parse,
  text,
} from "./config-parse.ts";

export { ConfigError } from "./config-parse.ts";

/** What a server is made with. Names are those of the environment, in camelCase. */
export interface Config {
  /** Address to listen on. `HOST`, default 127.0.0.1. */
  host: string;
  /** Port to listen on; 0 takes a free one. `PORT`, default 50051. */
  port: number;
  /** Postgres 14 or newer; undefined: the embedded one. `DATABASE_URL`. */
  databaseUrl: string | undefined;
  /** Where LISTEN connects, when `databaseUrl` is a pooler's. `LATCHKEY_LISTEN_DATABASE_URL`, default the same. */
  listenDatabaseUrl: string | undefined;
  /** Holds the embedded database and the development secret key. `LATCHKEY_DATA_DIR`, default .latchkey. */
  dataDir: string;
  /** False opens every method and looks nobody up. `LATCHKEY_AUTH_ENABLED`, default true. */
  authEnabled: boolean;
  /** Methods that declare no access need a principal. `LATCHKEY_REQUIRE_AUTH`, default false. */
  requireAuth: boolean;
  /** Refuse to start where a method declares no access in its proto. `LATCHKEY_REQUIRE_DECLARED_ACCESS`, default false. */
  requireDeclaredAccess: boolean;
  /** Header that carries the token. `LATCHKEY_API_KEY_HEADER`, default x-api-key. */
  apiKeyHeader: string;
  /** `LATCHKEY_TOKEN_PREFIX`, default lk. Tokens of another prefix are refused. */
  tokenPrefix: string;
  /** `LATCHKEY_ACCEPT_SECRET_KEY`, default true; in production false, and true refuses to start. */
  acceptSecretKey: boolean;
  /** At least 16 characters; undefined in development: one is made. `LATCHKEY_SECRET_KEY`. */
  secretKey: string | undefined;
  /** Open to anyone, e.g. "api.users.UserService/GetUser" or "api.users.UserService/*". `LATCHKEY_PUBLIC_METHODS`. */
  publicMethods: string[];
  /** Serve gRPC reflection. `LATCHKEY_REFLECTION`, default true, in production false. */
  reflection: boolean;
  /** When an RPC is counted: see README. `LATCHKEY_USAGE_DURABILITY`, default batched. */
  usageDurability: "batched" | "strict";
  /** Request logs older than this are dropped. `LATCHKEY_LOG_RETENTION_DAYS`, default 30. */
  logRetentionDays: number;
  /** Statistics older than this are dropped. `LATCHKEY_STATS_RETENTION_DAYS`, default 400. Those of single minutes are kept for 30. */
  statsRetentionDays: number;
  /**
   * Calls a second above which an instance packs request log rows, and lays them out afterwards or once
   * somebody looks at the log; 0: always. `LATCHKEY_LOG_PACK_ABOVE`, default 15000.
   */
  logPackAbove: number;
  /** Log health and reflection RPCs too. `LATCHKEY_LOG_INFRASTRUCTURE`, default false. */
  logInfrastructure: boolean;
  /** No verdict rests on what is older than this. `LATCHKEY_CACHE_MAX_STALENESS_MS`, default 2000. */
  cacheMaxStalenessMs: number;
  /** While the database is down, cached keys answer for this long instead; 0: no longer than above. `LATCHKEY_CACHE_STALE_IF_ERROR_MS`, default 0. */
  cacheStaleIfErrorMs: number;
  /** Keys held in memory. `LATCHKEY_CACHE_MAX_ENTRIES`, default 100000. */
  cacheMaxEntries: number;
  /** Addresses or CIDR blocks whose x-forwarded-for is believed, and who may ask at `forwardAuthPath`. `LATCHKEY_TRUSTED_PROXIES`. */
  trustedProxies: string[];
  /** Where nginx, Traefik and other proxies ask for verdicts over HTTP, e.g. /auth; undefined: nowhere. `LATCHKEY_FORWARD_AUTH_PATH`. */
  forwardAuthPath: string | undefined;
  /** Origins that browsers may call from; * is any. `LATCHKEY_CORS_ORIGINS`. */
  corsOrigins: string[];
  /** Path of a PEM file, the certificate and its chain. Needs `tlsKey`. `LATCHKEY_TLS_CERT`. */
  tlsCert: string | undefined;
  /** Path of a PEM file, the certificate's key. Needs `tlsCert`. `LATCHKEY_TLS_KEY`. */
  tlsKey: string | undefined;
  /** Serve the console, and sign browsers in. `LATCHKEY_CONSOLE`, default true. */
  console: boolean;
  /** A session ends so long after its sign-in. `LATCHKEY_SESSION_MAX_HOURS`, default 12. */
  sessionMaxHours: number;
  /** A session ends when it was not used for so long. `LATCHKEY_SESSION_IDLE_MINUTES`, default 60. */
  sessionIdleMinutes: number;
  /** `LATCHKEY_MAX_MESSAGE_BYTES`, default 4194304, each way. */
  maxMessageBytes: number;
  /** `LATCHKEY_MAX_HEADER_BYTES`, default 16384. */
  maxHeaderBytes: number;
  /** HTTP/2 streams at once on one connection. `LATCHKEY_MAX_STREAMS_PER_CONNECTION`, default 256. */
  maxStreamsPerConnection: number;
  /** Stream resets that one connection may send at once. `LATCHKEY_STREAM_RESET_BURST`, default 1000. */
  streamResetBurst: number;
  /** Stream resets a second by which those are replenished. `LATCHKEY_STREAM_RESET_RATE`, default 33. */
  streamResetRate: number;
  /** RPCs at once on this instance; more are answered resource_exhausted. `LATCHKEY_MAX_CONCURRENT_RPCS`, default 10000. */
  maxConcurrentRpcs: number;
  /** False: unary RPCs go by Connect's own handlers too, and HTTP by Node's alone, slower and to the same effect. `LATCHKEY_LEAN_UNARY`, default true. */
  leanUnary: boolean;
  /** Longest deadline of a unary RPC, and its deadline when the client sets none; 0: none. `LATCHKEY_MAX_UNARY_MS`, default 60000. */
  maxUnaryMs: number;
  /** A stop waits this long for running RPCs. `LATCHKEY_SHUTDOWN_TIMEOUT_MS`, default 10000. */
  shutdownTimeoutMs: number;
  /** Instances on one port, each a process. `LATCHKEY_WORKERS`, default 1, at most 64. A program's server is always one. */
  workers: number;
  /** Port that answers `/metrics` to Prometheus, and to anyone who reaches it; 0 takes a free one; undefined: none. `LATCHKEY_METRICS_PORT`. */
  metricsPort: number | undefined;
  /** Address of that port. `LATCHKEY_METRICS_HOST`, default 127.0.0.1. */
  metricsHost: string;
  /** `LATCHKEY_LOG_LEVEL`: fatal, error, warn, info, debug, trace or silent; default info. */
  logLevel: string;
  /** `NODE_ENV` is production. */
  production: boolean;
}

type Field = Exclude<keyof Config, "production">;

export interface Setting<K extends Field = Field> {
  env: string;
  field: K;
  parse: Parse<Config[K]>;
  /** Undefined stands for "not set". */
  fallback: (production: boolean) => Config[K];
  /** A secret as a whole, or a URL that may hold a password. Neither is shown; an argument, which every user of the machine sees, may hold none. */
  secret?: "whole" | "password";
}

function setting<K extends Field>(
  env: string,
  field: K,
  parse: Parse<Config[K]>,
  fallback: Config[K] | ((production: boolean) => Config[K]),
  secret?: Setting["secret"],
): Setting {
  const byMode = typeof fallback === "function" ? fallback : () => fallback;
  return { env, field, parse, fallback: byMode, ...(secret && { secret }) } as unknown as Setting;
}

const maxMs = 2 ** 31 - 1;

/** The embedded database takes 200 connections, and a worker opens up to 21. */
const mostWorkersEmbedded = 8;

/** All of them; each is a flag of `latchkey serve` too. */
export const settings: readonly Setting[] = [
  setting("HOST", "host", text, "127.0.0.1"),
  setting("PORT", "port", integer(0, 65535), 50051),
  setting("DATABASE_URL", "databaseUrl", databaseUrl, undefined, "password"),
  setting("LATCHKEY_LISTEN_DATABASE_URL", "listenDatabaseUrl", databaseUrl, undefined, "password"),
  setting("LATCHKEY_DATA_DIR", "dataDir", text, ".latchkey"),
  setting("LATCHKEY_AUTH_ENABLED", "authEnabled", boolean, true),
  setting("LATCHKEY_REQUIRE_AUTH", "requireAuth", boolean, false),
  setting("LATCHKEY_REQUIRE_DECLARED_ACCESS", "requireDeclaredAccess", boolean, false),
  setting(
    "LATCHKEY_API_KEY_HEADER",
    "apiKeyHeader",
    (value) =>
      matching(
        /^(?!authorization$)[a-z0-9][a-z0-9-]*$/i,
        "must be the name of a header other than authorization",
      )(value).toLowerCase(),
    "x-api-key",
  ),
  setting(
    "LATCHKEY_TOKEN_PREFIX",
    "tokenPrefix",
    matching(/^[a-z][a-z0-9_]{0,15}$/, "must start with a letter and hold at most 16 of a-z, 0-9 and _"),
    "lk",
  ),
  setting("LATCHKEY_ACCEPT_SECRET_KEY", "acceptSecretKey", boolean, (production) => !production),
  setting(
    "LATCHKEY_SECRET_KEY",
    "secretKey",
    matching(/^[\x21-\x7e]{16,512}$/, "must be 16 to 512 visible ASCII characters"),
    undefined,
    "whole",
  ),
  setting(
    "LATCHKEY_PUBLIC_METHODS",
    "publicMethods",
    listOf(
      /^[A-Za-z_][\w.]*\/([A-Za-z_]\w*|\*)$/,
      "must list methods like package.Service/Method or package.Service/*, separated by commas",
    ),
    [],
  ),
  setting("LATCHKEY_REFLECTION", "reflection", boolean, (production) => !production),
  setting(
    "LATCHKEY_USAGE_DURABILITY",
    "usageDurability",
    matching(/^(batched|strict)$/, "must be batched or strict") as Parse<Config["usageDurability"]>,
    "batched",
  ),
  setting("LATCHKEY_LOG_RETENTION_DAYS", "logRetentionDays", integer(1, 3650), 30),
  setting("LATCHKEY_STATS_RETENTION_DAYS", "statsRetentionDays", integer(31, 36_500), 400),
  setting("LATCHKEY_LOG_PACK_ABOVE", "logPackAbove", integer(0, 1_000_000_000), 15_000),
  setting("LATCHKEY_LOG_INFRASTRUCTURE", "logInfrastructure", boolean, false),
  setting("LATCHKEY_CACHE_MAX_STALENESS_MS", "cacheMaxStalenessMs", integer(100, 60_000), 2000),
  setting("LATCHKEY_CACHE_STALE_IF_ERROR_MS", "cacheStaleIfErrorMs", integer(0, maxMs), 0),
  setting("LATCHKEY_CACHE_MAX_ENTRIES", "cacheMaxEntries", integer(1, 100_000_000), 100_000),
  setting("LATCHKEY_TRUSTED_PROXIES", "trustedProxies", addresses, []),
  setting(
    "LATCHKEY_FORWARD_AUTH_PATH",
    "forwardAuthPath",
    matching(/^(\/[\w~-][\w.~-]*)+$/, "must be a path like /auth, of letters, digits and . _ ~ -"),
    undefined,
  ),
  setting(
    "LATCHKEY_CORS_ORIGINS",
    "corsOrigins",
    listOf(
      /^(\*|https?:\/\/[^/\s*]+)$/,
      "must list origins like https://app.example.com, or *, separated by commas",
    ),
    [],
  ),
  setting("LATCHKEY_TLS_CERT", "tlsCert", text, undefined),
  setting("LATCHKEY_TLS_KEY", "tlsKey", text, undefined),
  setting("LATCHKEY_CONSOLE", "console", boolean, true),
  setting("LATCHKEY_SESSION_MAX_HOURS", "sessionMaxHours", integer(1, 8760), 12),
  // Its use is noted once a minute.
  setting("LATCHKEY_SESSION_IDLE_MINUTES", "sessionIdleMinutes", integer(5, 525_600), 60),
  setting("LATCHKEY_MAX_MESSAGE_BYTES", "maxMessageBytes", integer(1024, 2 ** 31 - 1), 4 * 1024 * 1024),
  setting("LATCHKEY_MAX_HEADER_BYTES", "maxHeaderBytes", integer(1024, 1024 * 1024), 16 * 1024),
  setting("LATCHKEY_MAX_STREAMS_PER_CONNECTION", "maxStreamsPerConnection", integer(1, 2 ** 31 - 1), 256),
  setting("LATCHKEY_STREAM_RESET_BURST", "streamResetBurst", integer(1, 2 ** 31 - 1), 1000),
  setting("LATCHKEY_STREAM_RESET_RATE", "streamResetRate", integer(1, 2 ** 31 - 1), 33),
  setting("LATCHKEY_MAX_CONCURRENT_RPCS", "maxConcurrentRpcs", integer(1, 2 ** 31 - 1), 10_000),
  setting("LATCHKEY_LEAN_UNARY", "leanUnary", boolean, true),
  setting("LATCHKEY_MAX_UNARY_MS", "maxUnaryMs", integer(0, maxMs), 60_000),
  setting("LATCHKEY_SHUTDOWN_TIMEOUT_MS", "shutdownTimeoutMs", integer(0, maxMs), 10_000),
  setting("LATCHKEY_WORKERS", "workers", integer(1, 64), 1),
  setting("LATCHKEY_METRICS_PORT", "metricsPort", integer(0, 65535), undefined),
  setting("LATCHKEY_METRICS_HOST", "metricsHost", text, "127.0.0.1"),
  setting(
    "LATCHKEY_LOG_LEVEL",
    "logLevel",
    matching(
      /^(fatal|error|warn|info|debug|trace|silent)$/,
      "must be fatal, error, warn, info, debug, trace or silent",
    ),
    "info",
  ),
];

/**
 * Reads the settings from an environment.
 *
 * A name that starts with LATCHKEY_ and is no setting (nor one that the other commands
 * read), a value that a setting does not take, and settings that contradict each other throw a
 * {@link ConfigError} that names them. An empty value counts as not set.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const production = env.NODE_ENV === "production";
  for (const name of Object.keys(env)) {
    if (name.startsWith("LATCHKEY_") && !clientNames.has(name) && !settings.some((s) => s.env === name)) {
      throw new ConfigError(`${name} is not a setting. Did you mean ${nearest(name)}?`);
    }
  }
  const config: Partial<Record<keyof Config, unknown>> = { production };
  for (const { env: name, field, parse, fallback } of settings) {
    const value = env[name];
    const unset = value === undefined || value === "";
    config[field] = unset ? fallback(production) : parseNamed(name, parse, value);
  }
  return checkConfig(config as unknown as Config);
}

/**
 * The settings of a program: its options, checked as the environment's are, and
 * the defaults. `production` is NODE_ENV's unless it is given. A program that has a client of its
 * database says so by `sql`, in place of `databaseUrl`. Throws a {@link ConfigError}.
 */
export function withDefaults(options: Partial<Config> & { sql?: unknown }): Config {
  const production = options.production ?? process.env.NODE_ENV === "production";
  const config: Partial<Record<keyof Config, unknown>> = { production };
  for (const { field, parse, fallback } of settings) {
    const value = options[field];
    config[field] = value === undefined ? fallback(production) : parseNamed(field, parse, String(value));
  }
  if (options.sql !== undefined && options.databaseUrl !== undefined) {
    throw new ConfigError("sql and databaseUrl both say where the database is: give one of them");
  }
  return checkConfig(config as unknown as Config, options.sql !== undefined);
}

export interface ShownSetting {
  /** Of the environment. */
  readonly name: string;
  /** As it would be written there; empty: not set. */
  readonly value: string;
  readonly isDefault: boolean;
}

/** Every setting as it is, for people; of secrets only whether they are set. */
export function showSettings(config: Config): ShownSetting[] {
  return settings.map(({ env, field, fallback, secret }) => {
    const value = String(config[field] ?? "");
    return {
      name: env,
      value: value !== "" && secret !== undefined ? "(set)" : value,
      isDefault: value === String(fallback(config.production) ?? ""),
    };
  });
}

/** Reads a value; what is wrong with it is said with its name. */
export function parseNamed<T>(name: string, parse: Parse<T>, value: string): T {
  try {
    return parse(value);
  } catch (error) {
    // The value is left out: it may be a secret.
    throw new ConfigError(`${name} ${error instanceof Error ? error.message : "is malformed"}`);
  }
}

function checkConfig(config: Config, hasClient = false): Config {
  const isEmbedded = config.databaseUrl === undefined && !hasClient;
  if (config.production && config.acceptSecretKey) {
    throw new ConfigError(
      "LATCHKEY_ACCEPT_SECRET_KEY cannot be true with NODE_ENV=production: the secret key is a development shortcut. Use an API key: latchkey bootstrap creates the first.",
    );
  }
  if ((config.tlsCert === undefined) !== (config.tlsKey === undefined)) {
    throw new ConfigError("LATCHKEY_TLS_CERT and LATCHKEY_TLS_KEY must be set together");
  }
  if (config.listenDatabaseUrl !== undefined && isEmbedded) {
    throw new ConfigError(
      "LATCHKEY_LISTEN_DATABASE_URL needs DATABASE_URL: the embedded database has no pooler",
    );
  }
  if (config.workers > mostWorkersEmbedded && isEmbedded) {
    throw new ConfigError(
      `LATCHKEY_WORKERS above ${mostWorkersEmbedded} needs DATABASE_URL: the embedded database has no connections for more`,
    );
  }
  return config;
}

/** The setting whose name takes the fewest changes to arrive at; one without LATCHKEY_ where that was put before it. */
function nearest(name: string): string {
  const bare = name.slice("LATCHKEY_".length);
  const names = settings.map(({ env }) => env);
  if (names.includes(bare)) return bare;
  return names.reduce((best, env) => (distance(name, env) < distance(name, best) ? env : best));
}

/** The characters to insert, delete or replace between two texts (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
