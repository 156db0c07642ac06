/** Whether verdicts come from memory: an instance that is well asks Postgres for none. */
import type { ServerProcess } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import type { Fleet, FleetKey } from "./fleet.ts";
import { callOnce } from "./probe.ts";

/** How often the servers have looked a key up. */
export async function lookups({ sql }: Fleet): Promise<number> {
  await sql`CREATE EXTENSION IF NOT EXISTS pg_stat_statements`;
  const [row] = await sql`
    SELECT coalesce(sum(calls), 0)::int AS calls FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query LIKE '%"api_keys"."hash" = ANY%'`;
  return row?.calls as number;
}

/** Resolves once a server answers for a key without a look-up. All others must be well. */
export async function answersFromMemory(fleet: Fleet, server: ServerProcess, key: FleetKey): Promise<void> {
  await until(
    async () => {
      const before = await lookups(fleet);
      for (let n = 0; n < 20; n++) await callOnce(server, key.token, key.userId);
      return (await lookups(fleet)) - before;
    },
    (found) => found === 0,
  );
}
