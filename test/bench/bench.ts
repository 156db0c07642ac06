/**
 * Measures Latchkey against its peers, in one run:
 *
 *   npm run bench -- [--rounds 7] [--seconds 1.5] [--only grpc,json] [--peers …] [--json bench.json]
 *
 * Rounds alternate between the peers, so that what else happens on the machine meets all of them.
 * Each peer is a process on the first processor; the load, the database (an embedded one in a new
 * folder) and this process share the others. Exits with 1 where an answer or a count is wrong.
 * Needs Linux, taskset and h2load.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import { urlOf } from "../../src/db/open.ts";
import { databaseUrl, openSql } from "../harness/postgres.ts";
import { type BenchOptions, help, readOptions } from "./bench-options.ts";
import { say } from "./database.ts";
import { compileEcho } from "./echo.ts";
import { measureLoad } from "./load-rounds.ts";
import { loadTables } from "./load-tables.ts";
import { checkTools, choosePlaces, describeMachine, pinSelf } from "./machine.ts";
import type { Surroundings } from "./peer-process.ts";
import { peers } from "./peers.ts";
import { createResults } from "./results.ts";

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
  say(JSON.stringify(machine, null, 2));

  const directory = mkdtempSync(join(tmpdir(), "latchkey-bench-"));
  // As root, the database runs as another user, who must come through: else its data would lie elsewhere.
  chmodSync(directory, 0o711);
  const embedded = await startEmbeddedPostgres({ dataDir: join(directory, "data") });
  const results = createResults();
  const tables: string[] = [];
  try {
    const surroundings: Surroundings = {
      ...{ places, directory, image: compileEcho() },
      createDatabase: createDatabases(urlOf(embedded)),
    };
    for (const protocol of options.only) {
      const measured = peers.filter(
        (peer) => options.peers.includes(peer.id) && peer.protocols.includes(protocol),
      );
      await measureLoad({ ...options, protocol, peers: measured, surroundings, results, say });
      tables.push(loadTables(protocol, measured, results));
      say(`\n${tables.at(-1)}\n`);
    }
  } finally {
    await embedded.stop();
    rmSync(directory, { recursive: true, force: true });
  }
  const written = { machine, options, measurements: results.measurements };
  writeFileSync(options.json, `${JSON.stringify(written, null, 2)}\n`);
  say(`All rounds are in ${options.json}.`);
}

function createDatabases(url: string): () => Promise<string> {
  let n = 0;
  return async () => {
    const name = `bench_${++n}`;
    const sql = openSql(url);
    await sql.unsafe(`CREATE DATABASE ${name}`);
    await sql.end();
    return databaseUrl(url, name);
  };
}
