/** Which of several hosts takes writes. */
import { connectionError } from "./connection-error.ts";

/** An answer serves all connections that are opened within this time; a fail-over takes longer. */
const validMs = 1000;

/**
 * Creates what finds the host that takes writes: all are asked at once, the first that
 * says it does is the one. Rejects where none does. May be called concurrently.
 */
export function findPrimary<T>(
  hosts: readonly T[],
  takesWrites: (host: T) => Promise<boolean>,
): () => Promise<T> {
  let finding: Promise<T> | undefined;

  async function ask(host: T): Promise<T> {
    if (await takesWrites(host)) return host;
    throw connectionError("READ_ONLY", "no host of the database takes writes");
  }

  return () => {
    if (finding !== undefined) return finding;
    const found = Promise.any(hosts.map(ask)).catch((error: AggregateError) => {
      finding = undefined;
      throw error.errors.find(({ code }) => code === "READ_ONLY") ?? error.errors[0];
    });
    finding = found;
    found.then(
      () => setTimeout(() => (finding = undefined), validMs).unref(),
      () => {},
    );
    return found;
  };
}
