/** The connections of a server: each purpose has its own, so that a slow listing delays no verdict and no commit. */
import type postgres from "postgres";
import { type ConnectOptions, connect } from "./client.ts";
import type { OpenedDatabase } from "./open.ts";

export interface Pools {
  /** Opens a client of at most so many connections. `statementTimeoutMs` is 10,000 unless given. */
  open(purpose: string, max: number, statementTimeoutMs?: number): postgres.Sql;
  /** Opens a client of one connection for LISTEN. It is not of the pools: whoever asked for it ends it. */
  listen(events: Pick<ConnectOptions, "onNotification" | "onClose">): postgres.Sql;
  /** Ends all that was opened, once what runs on it is done or a second has passed. */
  close(): Promise<void>;
}

/** `pooled`: through a transaction pooler, see `ConnectOptions`. */
export function createPools({ address, listenAddress }: OpenedDatabase, pooled: boolean): Pools {
  const clients: postgres.Sql[] = [];
  return {
    open(purpose, max, statementTimeoutMs = 10_000) {
      const client = connect(address, { max, purpose, statementTimeoutMs, pooled });
      clients.push(client);
      return client;
    },
    listen: (events) =>
      connect(listenAddress, { max: 1, purpose: "listen", statementTimeoutMs: 0, ...events }),
    async close() {
      await Promise.all(clients.map((client) => client.end({ timeout: 1 })));
    },
  };
}
