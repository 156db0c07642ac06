/** What the process says when it cannot go on: what is wrong and what to do, where that is known. */
import { resolve } from "node:path";
import { type Config, ConfigError } from "../config.ts";
import { describeAddress } from "../db/address.ts";
import { EmbeddedPostgresError } from "../db/embedded/embedded.ts";
import { PostgresTooOldError } from "../db/too-old.ts";
import { UsageError } from "./usage-error.ts";
import { WorkerStartError } from "./workers.ts";

/** Errors whose messages are written for the operator. */
const written = [ConfigError, UsageError, EmbeddedPostgresError, PostgresTooOldError, WorkerStartError];

/**
 * An error in words, never with a password or a statement's parameters; a stack where nothing better is known.
 * `config`: the settings that were in force, where it is about a server.
 */
export function explain(error: unknown, config?: Config): string {
  if (!(error instanceof Error)) return String(error);
  if (written.some((type) => error instanceof type)) return error.message;
  // What wraps it may hold parameters, hashes among them.
  const root = rootOf(error);
  const { code, path, syscall, hostname } = root as NodeJS.ErrnoException & { hostname?: string };
  if (typeof code !== "string" || config === undefined) return root.stack ?? root.message;

  const { host, port, databaseUrl, listenDatabaseUrl, tlsCert, tlsKey } = config;
  if (code === "EADDRINUSE") {
    return `${host}:${port} is taken by another process: stop it, or choose another port with PORT or --port`;
  }
  if (syscall === "listen" || (syscall === "getaddrinfo" && hostname === host)) {
    return `cannot listen on ${host}:${port} (${root.message}): set HOST and PORT, or --host and --port`;
  }
  if (path !== undefined && (path === tlsCert || path === tlsKey)) {
    return `cannot read ${path === tlsCert ? "LATCHKEY_TLS_CERT" : "LATCHKEY_TLS_KEY"} (${root.message})`;
  }
  if (code.startsWith("ERR_OSSL")) {
    return `cannot use LATCHKEY_TLS_CERT ${tlsCert} with LATCHKEY_TLS_KEY ${tlsKey} (${root.message}): both must be PEM files, of one pair`;
  }
  if (path !== undefined && isWithin(path, config.dataDir)) {
    return `cannot use the data directory ${config.dataDir} (${root.message}): make it usable for this user, or set LATCHKEY_DATA_DIR to another`;
  }
  if (databaseUrl !== undefined && path === undefined) {
    const settings =
      listenDatabaseUrl === undefined ? "DATABASE_URL" : "DATABASE_URL, LATCHKEY_LISTEN_DATABASE_URL";
    return `cannot use ${describeAddress({ url: databaseUrl })} (${code}: ${root.message}). Check ${settings} and that the server runs`;
  }
  return root.stack ?? root.message;
}

function rootOf(error: Error): Error {
  return error.cause instanceof Error ? rootOf(error.cause) : error;
}

/** Whether a path lies in a directory, or on the way to it. */
function isWithin(path: string, directory: string): boolean {
  const [a, b] = [`${resolve(path)}/`, `${resolve(directory)}/`];
  return a.startsWith(b) || b.startsWith(a);
}
