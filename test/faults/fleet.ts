/** Server processes on one database, which tests may harm. */
import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  newDirectory,
  type ServerProcess,
  secretKey,
  spawnServer,
} from "../harness/server.ts";

export interface Fleet {
  readonly databaseUrl: string;
  /** Looks at the database past the servers. */
  readonly sql: postgres.Sql;
  /** Those that run. */
  readonly servers: ServerProcess[];
  /** Clients of a server, with the secret key of a staff user or another token. */
  as(server: ServerProcess | undefined, token?: string): Clients;
  /** A user of its own and a key for it. */
  newKey(): Promise<FleetKey>;
  /** Starts one more. */
  add(env?: Record<string, string>): Promise<ServerProcess>;
  /** Sends a signal to a server, which counts as gone from here on. Resolves when it has ended. */
  end(server: ServerProcess, signal: NodeJS.Signals): Promise<number | null>;
  /** Kills those that run. */
  close(): Promise<void>;
}

export interface FleetKey {
  readonly userId: bigint;
  readonly apiKeyId: string;
  readonly token: string;
}

/** Starts so many servers with an environment in common. */
export async function startFleet(size: number, env: Record<string, string> = {}): Promise<Fleet> {
  const databaseUrl = await createTestDatabase();
  const sql = openSql(databaseUrl);
  const servers: ServerProcess[] = [];
  noteSecret(secretKey);
  const fleet: Fleet = {
    databaseUrl,
    sql,
    servers,
    as: (server, token = secretKey) => clientsOf(connectTransport(server?.url ?? "", token)),
    newKey: () => createUserAndKey(fleet.as(servers[0]), `user-${randomUUID().slice(0, 13)}`),
    async add(own = {}) {
      const server = await spawnServer({
        DATABASE_URL: databaseUrl,
        LATCHKEY_SECRET_KEY: secretKey,
        LATCHKEY_DATA_DIR: newDirectory(),
        ...env,
        ...own,
      });
      servers.push(server);
      return server;
    },
    async end(server, signal) {
      const at = servers.indexOf(server);
      if (at >= 0) servers.splice(at, 1);
      server.child.kill(signal);
      return (await server.exited).code;
    },
    async close() {
      await Promise.all([...servers].map((server) => fleet.end(server, "SIGKILL")));
      await sql.end();
    },
  };
  await Promise.all(Array.from({ length: size }, () => fleet.add()));
  return fleet;
}
