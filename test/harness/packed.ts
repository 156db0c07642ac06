/** Request log rows that are packed, and cannot be laid out yet. */
import type { EndedCall } from "../../src/auth/call.ts";
import { connect } from "../../src/db/client.ts";
import { batchOf, createWriter } from "../usage/batches.ts";
import { openSql } from "./postgres.ts";

/** Packs calls, as an instance that has ended since would have. Returns what lets others lay them out. */
export async function packHeld(databaseUrl: string, calls: EndedCall[]): Promise<() => Promise<void>> {
  const sql = openSql(databaseUrl);
  const client = connect({ url: databaseUrl }, { max: 1, purpose: "test", statementTimeoutMs: 0 });
  const [locked, done] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const lock = sql.begin(async (tx) => {
    await tx`LOCK TABLE request_logs IN SHARE MODE`;
    locked.resolve();
    await done.promise;
  });
  await locked.promise;
  await createWriter(client)({ ...batchOf(1, calls), isPacked: true });
  await client.end();
  return async () => {
    done.resolve();
    await lock;
    await sql.end();
  };
}
