/** Where the database is, started first where it is our own. */
import type { DatabaseAddress } from "./client.ts";
import { startEmbeddedPostgres } from "./embedded/embedded.ts";

export interface OpenedDatabase {
  readonly address: DatabaseAddress;
  /** For LISTEN: the same, unless `address` is a pooler's. */
  readonly listenAddress: DatabaseAddress;
  /** For people: a host and name, never a password. */
  readonly description: string;
  /** Stops the embedded database; nothing for another. */
  close(): Promise<void>;
}

/** Opens the database at a URL, else starts the embedded one in the data directory. */
export async function openDatabase(options: {
  databaseUrl: string | undefined;
  listenDatabaseUrl: string | undefined;
  dataDir: string;
  onProgress?: (message: string) => void;
}): Promise<OpenedDatabase> {
  const { databaseUrl, listenDatabaseUrl } = options;
  if (databaseUrl !== undefined) {
    return {
      address: { url: databaseUrl },
      listenAddress: { url: listenDatabaseUrl ?? databaseUrl },
      description: describeUrl(databaseUrl),
      close: async () => {},
    };
  }
  const embedded = await startEmbeddedPostgres({
    dataDir: options.dataDir,
    ...(options.onProgress && { onProgress: options.onProgress }),
  });
  const { host, port, database, username } = embedded;
  const address = { host, port, database, username };
  return {
    address,
    listenAddress: address,
    description: `embedded Postgres in ${options.dataDir}${embedded.adopted ? " (taken over from a process that was killed)" : ""}`,
    close: () => embedded.stop(),
  };
}

/** The URL of an address: what another process reaches the same database by. */
export function urlOf(address: DatabaseAddress): string {
  if ("url" in address) return address.url;
  const { host, port, database, username } = address;
  return `postgres://${username}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`;
}

/** The hosts and the database of a Postgres URL, without user and password. */
export function describeUrl(url: string): string {
  const [, hosts = "", name = ""] = url.match(/^postgres(?:ql)?:\/\/(?:[^@/]*@)?([^/?]*)\/?([^?]*)/) ?? [];
  return `Postgres at ${hosts || "localhost"}${name && `, database ${name}`}`;
}
