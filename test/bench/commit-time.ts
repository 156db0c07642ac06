/** The database's own commit time: one row inserted, by one client with nothing else to do. */
import { openSql } from "../harness/postgres.ts";
import type { SectionContext } from "./load-rounds.ts";
import { quantile } from "./statistics.ts";

const commits = 200;

/** Returns what measures a round, and what ends it. */
export async function createCommitTime({ surroundings, results }: SectionContext) {
  const sql = openSql(await surroundings.createDatabase());
  await sql`CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz)`;
  return {
    async measure(round: number): Promise<void> {
      const times: number[] = [];
      for (let n = 0; n < commits; n++) {
        const began = performance.now();
        await sql`INSERT INTO commits (at) VALUES (now())`;
        times.push(performance.now() - began);
      }
      const values = { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
      results.add({ section: "commit", subject: "database", variant: "one row", round, values });
    },
    close: () => sql.end(),
  };
}
