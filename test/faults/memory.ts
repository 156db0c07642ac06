/** Whether verdicts come from memory: an instance that is well asks Postgres for none. */
import type { ServerProcess } from "../harness/server.ts";
import { lookupsSeen, watchStatements } from "../harness/statements-seen.ts";
import { until } from "../harness/until.ts";
import type { Fleet, FleetKey } from "./fleet.ts";
import { callOnce } from "./probe.ts";

/** Resolves once a server answers for a key without a look-up. All others must be well. */
export async function answersFromMemory({ sql }: Fleet, server: ServerProcess, key: FleetKey): Promise<void> {
  await until(
    async () => {
      await watchStatements(sql);
      for (let n = 0; n < 20; n++) await callOnce(server, key.token, key.userId);
      return lookupsSeen(sql);
    },
    (lookups) => lookups === 0,
  );
}
