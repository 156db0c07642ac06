/** What a running server holds on to: memory, descriptors, connections to its database. Linux only. */
import { readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type postgres from "postgres";

export interface Held {
  /** Processes of the server, its database's not among them. */
  readonly processes: number;
  readonly rssMiB: number;
  /** In use after a collection; NaN where it cannot be asked. */
  readonly heapMiB: number;
  readonly descriptors: number;
  readonly databaseConnections: number;
  /** Seconds of processor time so far. */
  readonly cpuS: number;
}

/** Seconds of processor time so far, over all processors. */
export interface Machine {
  readonly totalS: number;
  /** Of whom this is not: neither the server, its embedded database nor the process that measures. */
  readonly othersS: number;
}

const mib = 1024 * 1024;
const ticksPerS = 100;

/** Measures a server and those of its children that are Node too. */
export async function measureServer(pid: number, heapDir: string, sql: postgres.Sql): Promise<Held> {
  const pids = [pid, ...childrenOf(pid)];
  const heaps = await Promise.all(pids.map((each) => readHeap(join(heapDir, `heap-${each}`))));
  const [row] = await sql<{ n: number }[]>`
    SELECT count(*)::int AS n FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'latchkey%'`;
  const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
  return {
    processes: pids.length,
    rssMiB: sum(pids.map((each) => Number(statusOf(each, "VmRSS")) / 1024)),
    heapMiB: sum(heaps),
    descriptors: sum(pids.map((each) => readdirSync(`/proc/${each}/fd`).length)),
    databaseConnections: row?.n ?? 0,
    cpuS: sum(pids.map(cpuOf)),
  };
}

/** Measures the machine. `databasePid`: the embedded database's; undefined: not known, and counted among the others. */
export function measureMachine(pid: number, databasePid: number | undefined): Machine {
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0, steal = 0] = readFileSync(
    "/proc/stat",
    "utf8",
  )
    .split("\n", 1)[0]!
    .split(/\s+/)
    .slice(1)
    .map((ticks) => Number(ticks) / ticksPerS);
  const busyS = user + nice + system + irq + softirq + steal;
  const own = [pid, ...childrenOf(pid), process.pid, ...familyOf(databasePid)];
  const ownS = own.reduce((sum, each) => sum + cpuOf(each), 0);
  return { totalS: busyS + idle + wait, othersS: busyS - ownS };
}

/** A postmaster and its backends. */
function familyOf(pid: number | undefined): number[] {
  if (pid === undefined) return [];
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  return [pid, ...children.filter(Boolean).map(Number)];
}

/** The Node processes that a process started. */
export function childrenOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  return children
    .filter(Boolean)
    .map(Number)
    .filter((child) => /node$/.test(readFileSync(`/proc/${child}/cmdline`, "utf8").split("\0")[0] ?? ""));
}

function statusOf(pid: number, field: string): string {
  return (
    readFileSync(`/proc/${pid}/status`, "utf8").match(new RegExp(`^${field}:\\s+(\\d+)`, "m"))?.[1] ?? ""
  );
}

/**
 * Its own time and that of children that have ended. proc(5): fields 14 to 17; the 2nd may hold
 * anything but ends with a bracket.
 */
function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / ticksPerS;
}

function readHeap(path: string): Promise<number> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(path);
    socket.setTimeout(5000, () => socket.destroy());
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    socket.on("error", () => resolve(Number.NaN));
    socket.on("close", () => {
      const { heapUsed = Number.NaN, external = 0 } = text === "" ? {} : JSON.parse(text);
      resolve((heapUsed + external) / mib);
    });
  });
}
