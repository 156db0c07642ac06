/** The workers of a server process. Linux tells by itself; `ps`, which not every Linux has, tells elsewhere. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { ServerProcess } from "./server.ts";

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly isZombie: boolean;
  readonly command: string;
}

function processes(): Process[] {
  if (existsSync("/proc/self/stat")) {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => {
        try {
          // After the name, which stands in brackets and may hold any: the state and the parent.
          const [, state, parent] =
            readFileSync(`/proc/${pid}/stat`, "utf8").match(/\) (\S) (\d+) [^)]*$/) ?? [];
          const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
          return [{ pid: Number(pid), parent: Number(parent), isZombie: state === "Z", command }];
        } catch {
          // It ended meanwhile.
          return [];
        }
      });
  }
  return execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,args="], { encoding: "utf8" })
    .split("\n")
    .map((line) => line.match(/^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/))
    .filter((found) => found !== null)
    .map(([, pid, parent, state = "", command = ""]) => {
      return { pid: Number(pid), parent: Number(parent), isZombie: state.startsWith("Z"), command };
    });
}

/** Their process ids. */
export function workersOf({ child }: Pick<ServerProcess, "child">): number[] {
  return processes()
    .filter(({ parent, isZombie, command }) => {
      return parent === child.pid && !isZombie && /cli\/worker\.[jt]s/.test(command);
    })
    .map(({ pid }) => pid);
}

/** Whether a process is there, and no zombie. */
export function isAlive(pid: number): boolean {
  return processes().some((process) => process.pid === pid && !process.isZombie);
}
