/**
 * Rows of the request log, with their counters and rollups: the recorder and its writer, as the server has them.
 * Options: `packs`, the rows are packed, and then laid out, which is measured apart.
 */
import { connect, database } from "../../../src/db/client.ts";
import { createPackStore } from "../../../src/usage/pack-store.ts";
import { openSql } from "../../harness/postgres.ts";
import { callOf } from "../../usage/batches.ts";
import { inTurn, zipfDraws } from "./draws.ts";
import { createRecording } from "./recording.ts";
import type { StartSubject } from "./subject.ts";

/** Calls recorded before the event loop has its turn. */
const atOnce = 200;

/** All keys of the database call, few of them often. */
export const start: StartSubject = async ({ databaseUrl, options }) => {
  const { packs } = options as { packs?: boolean };
  const sql = openSql(databaseUrl);
  const keys = await sql<{ id: string; userId: string }[]>`SELECT id, user_id AS "userId" FROM api_keys`;
  await sql.end();
  const next = inTurn(zipfDraws(keys.length));
  const recording = createRecording(databaseUrl, packs);
  const client = connect({ url: databaseUrl }, { max: 1, purpose: "packs", statementTimeoutMs: 10_000 });
  const store = createPackStore(database(client), database(client));
  let recorded = 0;
  return {
    async measure(seconds) {
      const before = recorded;
      const cpuBefore = process.cpuUsage();
      const began = performance.now();
      while (performance.now() < began + seconds * 1000) {
        for (let n = 0; n < atOnce; n++) {
          const { id, userId } = keys[next()] as { id: string; userId: string };
          recording.recorder.record(callOf(id, {}, BigInt(userId)));
        }
        recorded += atOnce;
        await (recording.room() ?? new Promise((resolve) => setImmediate(resolve)));
      }
      await recording.drained();
      const { user, system } = process.cpuUsage(cpuBefore);
      const rows = recorded - before;
      const rates = {
        perS: (rows * 1000) / (performance.now() - began),
        perServerS: (rows * 1e6) / (user + system),
      };
      if (!packs) return rates;
      const packed = performance.now();
      while ((await store.unpackNext()) !== undefined);
      return { ...rates, laidOutPerS: (rows * 1000) / (performance.now() - packed) };
    },
    async close() {
      await recording.close(recorded);
      await client.end();
    },
  };
};
