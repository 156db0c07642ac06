/** What Latchkey leaves to be done after a burst: the rows of its log, laid out. */
import { setTimeout as sleep } from "node:timers/promises";
import { openSql } from "../harness/postgres.ts";

/** Calls are committed so long after they ended at most. */
const commitMs = 150;
const pollMs = 50;
const longestMs = 120_000;

/** Resolves once nothing is left, with the milliseconds that it took. */
export async function laidOut(databaseUrl: string): Promise<number> {
  const began = performance.now();
  const sql = openSql(databaseUrl);
  try {
    await sleep(commitMs);
    for (;;) {
      const [found] = await sql<{ waits: boolean }[]>`SELECT EXISTS (SELECT FROM request_log_packs) AS waits`;
      const tookMs = performance.now() - began;
      if (found?.waits === false) return tookMs;
      if (tookMs > longestMs) throw new Error("the request log is not laid out");
      await sleep(pollMs);
    }
  } finally {
    await sql.end();
  }
}
