/**
 * Measures what pages of the request log and statistics of 30 days read, and how long
 * they take, on what `log-data.ts` made.
 *
 *   node test/bench/log-plans.ts [--only Pages|Statistics] [--data-dir DIR]
 *
 * The statements are those that the stores send, and what they read is what EXPLAIN
 * (ANALYZE, BUFFERS) says: rows that are looked at, whether they come out or not. Exits
 * with 1 where that is more than a bound, none of which grows with the number of calls:
 *
 * - A page of 100 under a filter that an index answers: 101 rows, and one of each
 *   partition, since the rows of the partitions are merged. Twice as much where a key of
 *   a user is asked for, whose it is being looked up.
 * - Under a service or a method alone: as much for each method of the service, or for
 *   each service, and a row of each partition for each of these names.
 * - Under any other filter: 20,000 rows, and a row of each partition for each of the 16
 *   codes of what failed.
 * - An overview: a rollup for each bucket of time (days; hours at both ends; minutes of
 *   the first hour and of what is not folded yet) and each outcome: a method with a code
 *   and denial reason. Of a key or user, these of each of its keys. A breakdown, and a
 *   series by service or method: twice as much. A series has buckets of an hour or a day.
 * - The busiest keys and users: lists of 500 for each hour and day, the days of 30
 *   candidates, or of 500 under a filter, and the hours and minutes at both ends.
 *
 * Of much less data Postgres may read whole tables, since that is cheaper. Pages of 8 kB are bounded with them: two for a row, and a descent for each index scan.
 */
import { parseArgs } from "node:util";
import { defaultDataDir, fail, openBenchDatabase, readMade, say } from "./database.ts";
import { logReadings, pageSize } from "./log-cases.ts";
import { measure, sayHeader } from "./measure.ts";
import { statsReadings } from "./stats-cases.ts";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      "data-dir": { type: "string", default: defaultDataDir },
    },
  });
  const bench = await openBenchDatabase(values["data-dir"], 1);
  try {
    const made = await readMade(bench.db);
    if (!made?.isWhole) throw new Error(`${bench.description} has no data: run test/bench/log-data.ts first`);
    say(`${bench.description}: ${made.rows} rows, ${made.keys} keys, ${made.days} days`);
    const over: string[] = [];
    for (const [title, readings] of [
      [`Pages of ${pageSize} of the request log`, logReadings(bench, made)],
      [`Statistics of ${made.days} days`, statsReadings(bench.db, made)],
    ] as const) {
      if (!title.includes(values.only)) continue;
      say(`\n${title}\n`);
      sayHeader();
      for await (const reading of readings) {
        const wrong = await measure(bench.client, reading);
        if (wrong !== undefined) over.push(wrong);
      }
    }
    say(over.length === 0 ? "\nall within their bounds" : `\n${over.length} over their bounds:`);
    for (const line of over) say(line);
    process.exitCode = over.length === 0 ? 0 : 1;
  } finally {
    await bench.close();
  }
}

await main().catch(fail);
