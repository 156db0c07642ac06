/** What `latchkey serve --help` says of each setting. */
import type { Config } from "./config.ts";

export interface SettingHelp {
  /** What stands for the value; undefined: true or false, true when the flag stands alone. */
  readonly value?: string;
  readonly text: string;
}

/** By field. */
export const settingHelp: Readonly<Record<Exclude<keyof Config, "production">, SettingHelp>> = {
  host: { value: "address", text: "listen on this address" },
  port: { value: "port", text: "listen on this port; 0 takes a free one" },
  databaseUrl: { value: "url", text: "Postgres 14 or newer, in place of the embedded one" },
  listenDatabaseUrl: { value: "url", text: "its direct address, where the other is a transaction pooler's" },
  dataDir: { value: "folder", text: "holds the embedded database and the development secret key" },
  authEnabled: { text: "false: every method is open" },
  requireAuth: { text: "methods that declare nothing need a credential" },
  requireDeclaredAccess: { text: "refuse to start while a method declares no access" },
  apiKeyHeader: { value: "name", text: "header that carries the token" },
  tokenPrefix: { value: "prefix", text: "what tokens begin with" },
  acceptSecretKey: { text: "let the secret key sign in; never in production" },
  secretKey: { value: "key", text: "the secret key, 16 to 512 characters" },
  publicMethods: { value: "methods", text: "open to anyone, separated by commas" },
  reflection: { text: "serve gRPC reflection" },
  usageDurability: { value: "mode", text: "batched, or strict: a call is answered once it is committed" },
  logRetentionDays: { value: "days", text: "drop request logs that are older" },
  statsRetentionDays: { value: "days", text: "drop statistics that are older" },
  logPackAbove: { value: "calls", text: "a second, above which log rows are packed and laid out later" },
  logInfrastructure: { text: "log and count health and reflection calls too" },
  cacheMaxStalenessMs: { value: "ms", text: "no verdict rests on anything older" },
  cacheStaleIfErrorMs: { value: "ms", text: "cached keys answer this long while the database fails" },
  cacheMaxEntries: { value: "count", text: "keys in memory" },
  forwardAuthPath: { value: "path", text: "where proxies ask for verdicts by forward auth" },
  trustedProxies: { value: "addresses", text: "whose x-forwarded-for is believed, separated by commas" },
  corsOrigins: { value: "origins", text: "that browsers may call from, separated by commas; * is any" },
  console: { text: "serve the web console, and let browsers sign in" },
  sessionMaxHours: { value: "hours", text: "a session ends so long after it began" },
  sessionIdleMinutes: { value: "minutes", text: "a session that is not used ends after so long" },
  tlsCert: { value: "file", text: "PEM file; with --tls-key, the port speaks TLS too" },
  tlsKey: { value: "file", text: "PEM file" },
  maxMessageBytes: { value: "bytes", text: "one message, each way" },
  maxHeaderBytes: { value: "bytes", text: "a request's headers" },
  maxStreamsPerConnection: { value: "count", text: "HTTP/2 streams at once on one connection" },
  streamResetBurst: { value: "count", text: "HTTP/2 resets at once before a connection is ended" },
  streamResetRate: { value: "count", text: "and a second" },
  maxConcurrentRpcs: { value: "count", text: "calls at once; more are answered resource_exhausted" },
  leanUnary: { text: "false: unary calls go by Connect's own handlers, and HTTP/2 by Node's, slower" },
  maxUnaryMs: { value: "ms", text: "the longest that a unary call may take; 0: no limit" },
  shutdownTimeoutMs: { value: "ms", text: "a stop waits this long for running calls" },
  workers: { value: "N", text: "run N instances on the port, each a process" },
  metricsPort: { value: "port", text: "answer /metrics to Prometheus on this port; 0 takes a free one" },
  metricsHost: { value: "address", text: "of the metrics port" },
  logLevel: { value: "level", text: "of the server's own log, on standard error" },
};
