/** Transactions whose connection is lost: what postgres.js 3.4.9 does not survive. */
import type postgres from "postgres";

/** Thrown for a statement of a transaction whose connection is gone. */
class ConnectionLostError extends Error {
  override name = "ConnectionLostError";
  readonly code = "CONNECTION_CLOSED";
}

type Begin = (options: string, run: (tx: postgres.TransactionSql) => unknown) => Promise<unknown>;

/**
 * Makes `begin` of a client outlive its connection. postgres.js rejects the
 * transaction then, but goes on to write a ROLLBACK, or the next statement, to a
 * socket that is not there: an exception that nobody can catch, and a connection that
 * is never used again. So after the loss nothing more of the transaction reaches it.
 */
export function surviveLostConnections<S extends postgres.Sql>(client: S): S {
  const begin = client.begin.bind(client) as unknown as Begin;
  const survive: Begin = (options, run) => {
    let lost = false;
    const check = () => {
      if (lost) throw new ConnectionLostError("the connection was lost within the transaction");
    };
    const transaction = begin(options, async (tx) => {
      try {
        const result = await run(refusing(tx, check));
        check();
        return result;
      } catch (error) {
        // Never settled: that is what keeps the ROLLBACK back. `begin` itself rejects as the connection closes.
        if (lost || isLoss(error)) return new Promise<never>(() => {});
        throw error;
      }
    });
    transaction.catch((error: unknown) => {
      lost = isLoss(error);
    });
    return transaction;
  };
  const either = (options: unknown, run?: unknown) =>
    run === undefined ? survive("", options as never) : survive(options as string, run as never);
  return Object.assign(client, { begin: either });
}

/** The same client, which asks first whether it may send a statement. */
function refusing(tx: postgres.TransactionSql, check: () => void): postgres.TransactionSql {
  return new Proxy(tx, {
    apply(target, self, args) {
      check();
      return Reflect.apply(target, self, args);
    },
    get(target, name, receiver) {
      const value = Reflect.get(target, name, receiver);
      if (name !== "unsafe") return value;
      return (...args: unknown[]) => {
        check();
        return Reflect.apply(value, target, args);
      };
    },
  });
}

const lossCode = /^(CONNECT(ION)?_\w+|57P0[1-5]|08\w{3}|25P03)$/;
const networkCall = /^(connect|read|write|shutdown|getaddrinfo)$/;

/**
 * Whether an error is of a connection that was lost or could not be had: postgres.js'
 * own codes, whatever the network says, and those with which Postgres ends a session
 * or lets none begin.
 */
export function isLoss(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (!("code" in e)) continue;
    if (lossCode.test(String(e.code)) || ("severity" in e && e.severity === "FATAL")) return true;
    if ("syscall" in e && networkCall.test(String(e.syscall))) return true;
  }
  return false;
}
