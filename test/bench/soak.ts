/**
 * Runs a server under a steady mixed load for an hour, and says whether it holds: memory,
 * descriptors, connections and latency flat, every answered call counted.
 *
 *   npm run bench:soak -- [--minutes 60] [--rate 300] [-- ARGUMENTS OF THE SERVER]
 *
 * The server runs on DATABASE_URL, else on an embedded database in a new folder. Load comes
 * from this process, over the loopback, on the same processors. Exits with 1 where something
 * is not flat or not counted; latency is not judged where others take the processors. Linux
 * only: it reads /proc.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import type postgres from "postgres";
import { openSql } from "../harness/postgres.ts";
import { secretKey } from "../harness/server.ts";
import { disagreements, type Ledger } from "./soak-ledger.ts";
import { type SoakLoad, startSoakLoad } from "./soak-load.ts";
import { measureMachine, measureServer } from "./soak-sample.ts";
import { judge, type Sample } from "./soak-verdict.ts";
import { quantile } from "./statistics.ts";

const { values, positionals } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    rate: { type: "string", default: "300" },
    "sample-s": { type: "string", default: "30" },
  },
  allowPositionals: true,
});
const minutes = Number(values.minutes);
const callsPerS = Number(values.rate);
const sampleS = Number(values["sample-s"]);
if (!(minutes > 0 && minutes <= 24 * 60 && callsPerS > 0 && sampleS > 0)) {
  throw new Error("--minutes (at most 1440), --rate and --sample-s take numbers above 0");
}

const directory = mkdtempSync(join(tmpdir(), "latchkey-soak-"));
// As root, the database runs as another user, who must come through: else its data would lie elsewhere.
chmodSync(directory, 0o711);
const dataDir = join(directory, "data");
const heapDir = join(directory, "heap");
mkdirSync(heapDir);
const logPath = join(directory, "server.log");
const marks = new Map([
  [true, "flat    "],
  [false, "NOT FLAT"],
  [undefined, "?       "],
]);
const say = (line: string) => process.stdout.write(`${line}\n`);

const server = startServer();
const exited = once(server, "exit") as Promise<[number | null, string | null]>;
// Whatever happens, it ends.
setTimeout(() => end(new Error("the soak does not end")), (minutes + 5) * 60_000).unref();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => end(new Error(signal)));
try {
  process.exitCode = (await soak()) ? 0 : 1;
} catch (error) {
  await end(error);
}

function startServer(): ChildProcess {
  const { PATH = "", HOME = "", DATABASE_URL = "" } = process.env;
  const preload = new URL("report-heap.ts", import.meta.url).pathname;
  const log = openSync(logPath, "a");
  return spawn(process.execPath, ["--expose-gc", "--import", preload, "src/main.ts", ...positionals], {
    env: {
      ...{ PATH, HOME, DATABASE_URL, PORT: "0" },
      LATCHKEY_DATA_DIR: dataDir,
      LATCHKEY_SECRET_KEY: secretKey,
      // Small, so that it is full before the samples that count.
      LATCHKEY_CACHE_MAX_ENTRIES: "1000",
      SOAK_HEAP_DIR: heapDir,
    },
    stdio: ["ignore", "pipe", log],
  });
}

/** Leaves the folder, with the log, for who wants to know why. Nothing is left running. */
async function end(error: unknown): Promise<void> {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\nleft in ${directory}\n`);
  server.kill("SIGTERM");
  await Promise.race([exited, delay(20_000)]);
  server.kill("SIGKILL");
  process.exit(1);
}

async function soak(): Promise<boolean> {
  const url = await listening();
  const sql = openSql(process.env.DATABASE_URL || embedded().url);
  const load = await startSoakLoad({ url, staffToken: secretKey, callsPerS });
  say(`${callsPerS} calls/s for ${minutes} min at ${url}, a sample every ${sampleS} s; in ${directory}\n`);
  const samples = await sampleWhile(load, sql);
  await load.stop();
  const wrong = await settled(load.ledger, sql);
  await sql.end();

  server.kill("SIGTERM");
  const [code] = await exited;
  return report(load, samples, wrong, code);
}

async function listening(): Promise<string> {
  let banner = "";
  const printed = new Promise<string>((resolve) => {
    server.stdout?.setEncoding("utf8").on("data", (text: string) => {
      banner += text;
      const [, url] = banner.match(/address\s+(\S+)/) ?? [];
      if (url !== undefined) resolve(url);
    });
  });
  const failed = exited.then(() => {
    throw new Error(`the server did not start:\n${readFileSync(logPath, "utf8")}`);
  });
  failed.catch(() => {});
  return Promise.race([printed, failed]);
}

/** What the embedded database's pid file says. */
function embedded(): { pid: number; url: string } {
  const file = readFileSync(join(dataDir, "postgres/data/postmaster.pid"), "utf8");
  const [pid, , , port, socket] = file.split("\n");
  return { pid: Number(pid), url: `postgres://latchkey@localhost:${port}/latchkey?host=${socket}` };
}

async function sampleWhile(load: SoakLoad, sql: postgres.Sql): Promise<Sample[]> {
  say("   min  calls/s  p50 ms  p99 ms  rss MiB  heap MiB  fds  db conns  cpu %  others %  held  unexpected");
  const samples: Sample[] = [];
  const began = performance.now();
  const pid = server.pid ?? 0;
  const databasePid = process.env.DATABASE_URL ? undefined : embedded().pid;
  let machine = measureMachine(pid, databasePid);
  let { cpuS } = await measureServer(pid, heapDir, sql);
  let before = { atMs: performance.now(), calls: load.ledger.calls };
  while (performance.now() - began < minutes * 60_000) {
    await delay(Math.min(sampleS * 1000, began + minutes * 60_000 - performance.now() + 1));
    if (server.exitCode !== null || server.signalCode !== null) throw new Error("the server ended");
    const latencies = load.ledger.takeLatencies();
    const held = await measureServer(pid, heapDir, sql);
    const now = { atMs: performance.now(), calls: load.ledger.calls };
    const machineNow = measureMachine(pid, databasePid);
    const othersShare = (machineNow.othersS - machine.othersS) / (machineNow.totalS - machine.totalS);
    machine = machineNow;
    const seconds = (now.atMs - before.atMs) / 1000;
    const sample = {
      ...held,
      minute: (now.atMs - began) / 60_000,
      p50Ms: quantile(latencies, 0.5),
      p99Ms: quantile(latencies, 0.99),
      othersShare: databasePid === undefined ? Number.NaN : othersShare,
    };
    samples.push(sample);
    const unexpected = [...load.ledger.unexpected.values()].reduce((a, b) => a + b, 0);
    const cells = [
      sample.minute.toFixed(1).padStart(6),
      ((now.calls - before.calls) / seconds).toFixed(0).padStart(7),
      sample.p50Ms.toFixed(1).padStart(6),
      sample.p99Ms.toFixed(1).padStart(6),
      held.rssMiB.toFixed(0).padStart(7),
      held.heapMiB.toFixed(1).padStart(8),
      String(held.descriptors).padStart(3),
      String(held.databaseConnections).padStart(8),
      (((held.cpuS - cpuS) / seconds) * 100).toFixed(0).padStart(5),
      (othersShare * 100).toFixed(0).padStart(8),
      String(load.held).padStart(4),
      String(unexpected).padStart(10),
    ];
    say(cells.join("  "));
    before = now;
    cpuS = held.cpuS;
  }
  return samples;
}

/** Waits until everything that was answered is counted, for 10 s. Returns what is not. */
async function settled(ledger: Ledger, sql: postgres.Sql): Promise<string[]> {
  const until = Date.now() + 10_000;
  for (;;) {
    const wrong = disagreements(ledger, await countsOf([...ledger.entries.keys()], sql));
    if (wrong.length === 0 || Date.now() > until) return wrong;
    await delay(500);
  }
}

/** What each key was counted up to, and the rows of its calls; those of an ended key are logged and not counted. */
async function countsOf(ids: string[], sql: postgres.Sql) {
  const rows = await sql<{ id: string; count: number; rows: number }[]>`
    SELECT u.api_key_id AS id, u.request_count::int AS count, coalesce(l.n, 0)::int AS rows
    FROM api_key_usage u LEFT JOIN (
      SELECT api_key_id, count(*) AS n FROM request_logs
      WHERE api_key_id IS NOT NULL AND denial_reason IS DISTINCT FROM 'REVOKED'
      GROUP BY 1
    ) l USING (api_key_id)
    WHERE u.api_key_id = ANY(${ids})`;
  return new Map(rows.map(({ id, count, rows }) => [id, { count, rows }]));
}

function report(load: SoakLoad, samples: Sample[], wrong: string[], code: number | null): boolean {
  const { ledger, held, lives, longestLeftMs } = load;
  const findings = judge(samples);
  const entries = [...ledger.entries.values()];
  const answered = entries.reduce((sum, entry) => sum + entry.answered, 0);
  const unexpected = [...ledger.unexpected.values()].reduce((a, b) => a + b, 0);
  const logged = readFileSync(logPath, "utf8").split("\n");
  const errors = logged.filter((line) => /"level":[56]0/.test(line));

  say("");
  for (const { what, flat, text } of findings) say(`${marks.get(flat)}  ${what}: ${text}`);
  say(`calls     ${ledger.calls}, of them ${answered} answered for ${entries.length} keys; ${held} not sent`);
  say(
    `keys      ${lives} made, rotated and revoked; let in for at most ${longestLeftMs.toFixed(0)} ms longer`,
  );
  say(`counts    ${wrong.length === 0 ? "all agree with the answers and with the log" : "WRONG"}`);
  for (const line of wrong.slice(0, 20)) say(`          ${line}`);
  say(`failures  ${unexpected}`);
  for (const [what, n] of [...ledger.unexpected].slice(0, 20)) say(`          ${n} × ${what}`);
  say(`server    ended with ${code}; ${errors.length} errors in its log`);
  for (const line of errors.slice(0, 5)) say(`          ${line.slice(0, 300)}`);
  const holds =
    findings.every((f) => f.flat !== false) && wrong.length === 0 && unexpected === 0 && code === 0;
  say(holds ? "\nIt holds." : `\nIt does not hold. The server's log is ${logPath}`);
  if (holds) rmSync(directory, { recursive: true, force: true });
  return holds;
}
