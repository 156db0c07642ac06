/** The database's own commit time: one row inserted, by one client with nothing else to do. */
import { openSql } from "../harness/postgres.ts";
import type { SectionContext } from "./load-rounds.ts";
import type { Results } from "./results.ts";
import { quantile } from "./statistics.ts";
import { figure } from "./table.ts";

const commits = 200;

export const committed = { section: "commit", subject: "database", variant: "one row" };

export function commitLine(results: Results): string {
  const [p50, p99] = ["p50Ms", "p99Ms"].map((value) => figure(results.median({ ...committed, value })));
  return `A commit of one row takes ${p50} ms (p50), ${p99} ms (p99).`;
}

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
      results.add({ ...committed, round, values });
    },
    close: () => sql.end(),
  };
}
