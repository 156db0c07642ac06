/**
 * Calls a second with one worker and with several, in rounds that alternate, so that what
 * else runs on the machine meets both.
 *
 *   npm run bench:workers -- [--workers 2] [--rounds 5] [--seconds 10] [--connections 8]
 *
 * The servers share one database: DATABASE_URL, else one that is made in a new folder. They,
 * the database and the load run on the same machine: with few processors these figures say
 * what is left for the servers, not what they could do.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { urlOf } from "../../src/db/address.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import {
  clientsOf,
  connectTransport,
  type ServerProcess,
  secretKey,
  spawnServer,
} from "../harness/server.ts";
import { median } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    workers: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "10" },
    connections: { type: "string", default: "8" },
  },
});
const [workers, rounds, seconds, connections] = [
  values.workers,
  values.rounds,
  values.seconds,
  values.connections,
].map(Number) as [number, number, number, number];
const say = (line: string) => process.stdout.write(`${line}\n`);

const directory = mkdtempSync(join(tmpdir(), "latchkey-bench-"));
// As root, the database runs as another user, who must come through: else its data would lie elsewhere.
chmodSync(directory, 0o711);
const embedded = process.env.DATABASE_URL
  ? undefined
  : await startEmbeddedPostgres({ dataDir: join(directory, "data") });
const databaseUrl = embedded === undefined ? String(process.env.DATABASE_URL) : urlOf(embedded);
const servers: ServerProcess[] = [];
try {
  for (const n of [1, workers]) servers.push(await start(n));
  await measure(servers as [ServerProcess, ServerProcess]);
} finally {
  for (const { child } of servers) child.kill("SIGTERM");
  await Promise.all(servers.map(({ exited }) => exited));
  await embedded?.stop();
  rmSync(directory, { recursive: true, force: true });
}

function start(n: number): Promise<ServerProcess> {
  return spawnServer({
    DATABASE_URL: databaseUrl,
    LATCHKEY_DATA_DIR: join(directory, `server-${n}`),
    LATCHKEY_SECRET_KEY: secretKey,
    LATCHKEY_WORKERS: String(n),
    LATCHKEY_LOG_LEVEL: "error",
  });
}

async function measure([one, several]: [ServerProcess, ServerProcess]): Promise<void> {
  const staff = clientsOf(connectTransport(one.url, secretKey));
  const { token } = await staff.keys.createApiKey({ userId: 1n, name: "bench" });
  say(`${availableParallelism()} processors; ${connections} gRPC connections of 16 calls each at once`);
  say("round  calls/s with 1 worker  with several  ratio");
  const figures: [number, number][] = [];
  for (let round = 0; round <= rounds; round++) {
    // Each goes first every other time.
    const order = round % 2 === 0 ? [one, several] : [several, one];
    const found = new Map<ServerProcess, number>();
    for (const server of order) found.set(server, await callsPerS(server.url, token));
    const pair: [number, number] = [found.get(one) ?? 0, found.get(several) ?? 0];
    // In the first round code is compiled.
    if (round > 0) figures.push(pair);
    say(line(round === 0 ? "warm" : String(round), pair));
  }
  say(line("median", [median(figures.map(([a]) => a)), median(figures.map(([, b]) => b))]));
}

function line(name: string, [one, several]: [number, number]): string {
  const cells = [
    one.toFixed(0).padStart(21),
    several.toFixed(0).padStart(12),
    (several / one).toFixed(2).padStart(5),
  ];
  return `${name.padEnd(6)} ${cells.join("  ")}`;
}

/** Runs the load in a process of its own, which ends with the round. */
async function callsPerS(url: string, token: string): Promise<number> {
  const load: ChildProcess = fork(new URL("workers-load.ts", import.meta.url), {
    env: { ...process.env, BENCH_TOKEN: token },
    execArgv: [],
  });
  const ended = once(load, "exit");
  load.send({ url, seconds, connections });
  const [{ calls, failed }] = (await once(load, "message")) as [{ calls: number; failed: number }];
  await ended;
  if (failed > 0) throw new Error(`${failed} calls failed`);
  return calls / seconds;
}
