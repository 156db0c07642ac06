/** The workers of a server process. */
import { execFileSync } from "node:child_process";
import type { ServerProcess } from "./server.ts";

/** Their process ids. */
export function workersOf({ child }: Pick<ServerProcess, "child">): number[] {
  return execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,args="], { encoding: "utf8" })
    .split("\n")
    .map((line) => line.match(/^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/))
    .filter((found) => found !== null)
    .filter(([, , parent, state = "", args = ""]) => {
      return Number(parent) === child.pid && !state.startsWith("Z") && /cli\/worker\.[jt]s/.test(args);
    })
    .map(([, pid]) => Number(pid));
}

/** Whether a process is there, and no zombie. */
export function isAlive(pid: number): boolean {
  try {
    return !execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" })
      .trim()
      .startsWith("Z");
  } catch {
    return false;
  }
}
