/**
 * Measures Latchkey against its peers, in one run:
 *
 *   npm run bench -- [--rounds 7] [--seconds 1.2] [--only grpc,json] [--peers …] [--json bench.json]
 *
 * Rounds alternate between the peers, so that what else happens on the machine meets all of them.
 * Each peer is a process on the first processor; the load, the database (an embedded one in a new
 * folder) and this process share the others; see `scratch-postgres.ts` for how. gRPC is loaded
 * by h2load, JSON by wrk. Exits with 1 where an answer or a count is wrong. Needs Linux, taskset,
 * h2load and wrk.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type BenchOptions, help, readOptions, type Section } from "./bench-options.ts";
import { measureColdStart } from "./cold-start.ts";
import { commitLine, createCommitTime } from "./commit-time.ts";
import { say } from "./database.ts";
import { compileEcho } from "./echo.ts";
import { measureIdleConnections } from "./idle-connections.ts";
import { measureIngest } from "./ingest.ts";
import { measureThroughput, type SectionContext } from "./load-rounds.ts";
import { loadTables } from "./load-tables.ts";
import { checkTools, choosePlaces, describeMachine, pinSelf } from "./machine.ts";
import { peers } from "./peers.ts";
import { createResults } from "./results.ts";
import { startScratchPostgres } from "./scratch-postgres.ts";
import { measureTail } from "./tail-latency.ts";
import { findTargets, isMet, targetTable } from "./targets.ts";
import { measureVerdicts } from "./verdict-rounds.ts";

/** Each measures into the results, and returns its tables. */
const measureSection: Readonly<Record<Section, (context: SectionContext) => Promise<string>>> = {
  async grpc(context) {
    const commits = await createCommitTime(context);
    try {
      await measureThroughput(context, "grpc", commits.measure);
    } finally {
      await commits.close();
    }
    return `${loadTables("grpc", context.peers, context.results)}\n\n${commitLine(context.results)}`;
  },
  async json(context) {
    await measureThroughput(context, "json");
    return loadTables("json", context.peers, context.results);
  },
  p99: measureTail,
  verdicts: measureVerdicts,
  ingest: measureIngest,
  memory: measureIdleConnections,
  start: measureColdStart,
};

try {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) say(help);
  else await bench(options);
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}

async function bench(options: BenchOptions): Promise<void> {
  checkTools();
  const places = choosePlaces();
  pinSelf(places);
  const machine = describeMachine(places);
  const profileDir = options.profileDir === undefined ? undefined : resolve(options.profileDir);
  if (profileDir !== undefined) mkdirSync(profileDir, { recursive: true });
  say(JSON.stringify(machine, null, 2));

  const directory = mkdtempSync(join(tmpdir(), "latchkey-bench-"));
  // As root, the database runs as another user, who must come through: else its data would lie elsewhere.
  chmodSync(directory, 0o711);
  const postgres = await startScratchPostgres(join(directory, "data"));
  const cleanUp = async () => {
    await postgres.stop();
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  // What else it started ends with it.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => cleanUp().finally(() => process.exit(1)));
  }
  const results = createResults();
  const failures: string[] = [];
  const began = performance.now();
  try {
    const surroundings = {
      ...{ places, directory, profileDir, image: compileEcho(), createDatabase: postgres.create },
    };
    const context: SectionContext = {
      ...{ ...options, peers: peers.filter(({ id }) => options.peers.includes(id)) },
      ...{ surroundings, results, say },
    };
    for (const section of options.only) {
      try {
        say(`\n${await measureSection[section](context)}\n`);
      } catch (error) {
        // The others are worth having all the same.
        failures.push(`${section}: ${error instanceof Error ? error.message : error}`);
        say(`\nFAILED: ${failures.at(-1)}\n`);
      }
      // What they wrote would be vacuumed while others are measured.
      await postgres.drop();
    }
  } finally {
    await cleanUp();
  }
  const targets = findTargets(results, options.keys);
  say(`${targetTable(targets)}\n`);
  const seconds = Math.round((performance.now() - began) / 1000);
  const { measurements } = results;
  const written = { at: new Date(), seconds, machine, options, failures, targets, measurements };
  writeFileSync(options.json, `${JSON.stringify(written, null, 2)}\n`);
  say(`After ${seconds} s. All rounds are in ${options.json}.`);
  if (failures.length > 0) throw new Error(failures.join("\n"));
  if (options.strictTargets && targets.some((target) => isMet(target) === false)) process.exitCode = 1;
}
