/** Where the database is, started first where it is our own. */
import type postgres from "postgres";
import { type DatabaseAddress, describeAddress } from "./address.ts";
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

/** Opens the database of a client or at a URL, else starts the embedded one in the data directory. */
export async function openDatabase(options: {
  /** Tells where to connect; it is neither used nor ended. */
  sql?: postgres.Sql | undefined;
  databaseUrl: string | undefined;
  listenDatabaseUrl: string | undefined;
  dataDir: string;
  onProgress?: (message: string) => void;
}): Promise<OpenedDatabase> {
  const { sql, databaseUrl, listenDatabaseUrl } = options;
  const given = sql !== undefined ? { client: sql } : databaseUrl !== undefined && { url: databaseUrl };
  if (given) {
    return {
      address: given,
      listenAddress: listenDatabaseUrl === undefined ? given : { url: listenDatabaseUrl },
      description: describeAddress(given),
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
