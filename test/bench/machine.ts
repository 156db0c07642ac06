/** The machine: its processors, who runs on which, how busy they are, and the tools of the load. Linux only. */
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { delimiter, join } from "node:path";

/** The tools that do not come with npm, and the Debian packages that have them. */
const tools = { taskset: "util-linux", h2load: "nghttp2-client", wrk: "wrk" };

const ticksPerS = 100;

/** Processors, as taskset takes them, e.g. "0" or "1-3". */
export interface Places {
  readonly server: string;
  /** Of the load, the database and the bench itself. */
  readonly load: string;
}

/** Throws where a tool is missing, and says how to install it. */
export function checkTools(): void {
  if (process.platform !== "linux")
    throw new Error("the bench needs Linux: it pins processes and reads /proc");
  for (const [tool, debianPackage] of Object.entries(tools)) {
    if (!isOnPath(tool)) {
      throw new Error(`${tool} is missing: install it (Debian: apt-get install ${debianPackage})`);
    }
  }
}

function isOnPath(tool: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The first processor for the server, all others for the rest. Throws where there is one alone. */
export function choosePlaces(): Places {
  const count = availableParallelism();
  if (count < 2) throw new Error("the bench needs two processors: one for the server, one for the load");
  return { server: "0", load: count === 2 ? "1" : `1-${count - 1}` };
}

/** Moves this process, with all of its threads, to processors. What it starts from now on inherits them. */
export function pinSelf(places: Places): void {
  execFileSync("taskset", ["-a", "-p", "-c", places.load, String(process.pid)], { stdio: "ignore" });
}

/** The command line that runs another one on the server's processor. */
export function onServer(places: Places, command: readonly string[]): [string, string[]] {
  return ["taskset", ["-c", places.server, ...command]];
}

/** Seconds so far in which the processors did something, and in all; over the processors of a list. */
export function processorTimes(list: string): { busyS: number; totalS: number } {
  const wanted = new Set(expand(list).map((n) => `cpu${n}`));
  let busyS = 0;
  let totalS = 0;
  for (const line of readFileSync("/proc/stat", "utf8").split("\n")) {
    const [name = "", ...ticks] = line.split(/\s+/);
    if (!wanted.has(name)) continue;
    // proc(5): user nice system idle iowait irq softirq steal; guests are in user and nice already.
    const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0, steal = 0] = ticks.map(
      (n) => Number(n) / ticksPerS,
    );
    busyS += user + nice + system + irq + softirq + steal;
    totalS += user + nice + system + irq + softirq + steal + idle + wait;
  }
  return { busyS, totalS };
}

/** Seconds of processor time that the threads of a process took so far; those that ended are left out. */
export function processS(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    // In nanoseconds, where /proc/PID/stat counts hundredths of a second: a round is hardly longer.
    ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ", 1)[0]);
  }
  return ns / 1e9;
}

/** The numbers of a list of processors, e.g. 1, 2 and 3 of "1-3". */
export function expand(list: string): number[] {
  return list.split(",").flatMap((part) => {
    const [first = Number.NaN, last = first] = part.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** What the figures were taken on. */
export function describeMachine(places: Places) {
  // wrk says its version and ends with 1.
  const versionOf = (tool: string) =>
    spawnSync(tool, ["--version"], { encoding: "utf8" }).stdout.split(/\n| Copyright/, 1)[0];
  return {
    processor: cpus()[0]?.model ?? "unknown",
    processors: cpus().length,
    kernel: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim(),
    node: process.version,
    // Of the minutes before: on a quiet machine near 0.
    loadAverage: loadavg().map((load) => Number(load.toFixed(2))),
    loads: { grpc: versionOf("h2load"), json: versionOf("wrk") },
    places,
  };
}
