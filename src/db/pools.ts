/** The connections of a server: each purpose has its own, so that a slow listing delays no verdict and no commit. */
import type postgres from "postgres";
import { type Client, type ConnectOptions, connect } from "./client.ts";
import type { OpenedDatabase } from "./open.ts";
import type { PoolFigures } from "./pool-figures.ts";

export interface Pools {
  /** Opens a client of at most so many connections. `statementTimeoutMs` is 10,000 unless given. */
  open(purpose: string, max: number, statementTimeoutMs?: number): postgres.Sql;
  /** Opens a client of one connection for LISTEN. It is not of the pools: whoever asked for it ends it. */
  listen(events: Pick<ConnectOptions, "onNotification" | "onClose">): postgres.Sql;
  /** How the clients that were opened are doing. */
  readonly figures: readonly PoolFigures[];
  /** Ends all that was opened, once what runs on it is done or a second has passed. */
  close(): Promise<void>;
}

interface Pool {
  readonly purpose: string;
  readonly max: number;
  readonly client: Client;
  statements: number;
}

/** `pooled`: through a transaction pooler, see `ConnectOptions`. */
export function createPools({ address, listenAddress }: OpenedDatabase, pooled: boolean): Pools {
  const pools: Pool[] = [];
  return {
    open(purpose, max, statementTimeoutMs = 10_000) {
      const client = connect(address, { max, purpose, statementTimeoutMs, pooled });
      const pool: Pool = { purpose, max, client, statements: 0 };
      pools.push(pool);
      countStatements(pool);
      return client;
    },
    listen: (events) =>
      connect(listenAddress, { max: 1, purpose: "listen", statementTimeoutMs: 0, ...events }),
    get figures() {
      return pools.map(({ client, ...pool }) => ({ ...pool, connections: client.connections() }));
    },
    async close() {
      await Promise.all(pools.map(({ client }) => client.end({ timeout: 1 })));
    },
  };
}

/**
 * Counts what Drizzle has a client do: postgres.js tells nothing of its queue. A
 * statement is sent when it is first waited for, and that it is here.
 */
function countStatements(pool: Pool): void {
  const { client } = pool;
  const settled = () => void pool.statements--;
  const count = <P extends PromiseLike<unknown>>(underWay: P): P => {
    pool.statements++;
    underWay.then(settled, settled);
    return underWay;
  };
  const [unsafe, begin] = [client.unsafe.bind(client), client.begin.bind(client)] as [Start, Start];
  Object.assign(client, {
    unsafe: (...args: unknown[]) => count(unsafe(...args)),
    begin: (...args: unknown[]) => count(begin(...args)),
  });
}

type Start = (...args: unknown[]) => PromiseLike<unknown>;
