/** What a load is told, what it tells, and the tool that makes it: h2load's are in `h2load.ts`, wrk's in `wrk.ts`. */
import { type ChildProcess, spawn } from "node:child_process";

/** Whom to call. */
export interface Target {
  /** E.g. "http://127.0.0.1:12345". */
  readonly url: string;
  readonly token: string;
  /** Of each answer: over gRPC those of its body, over HTTP/1.1 those of its headers too. */
  readonly answerBytes: number;
}

export interface LoadResult {
  /** Seconds from the first call to the last answer. */
  readonly seconds: number;
  /** Calls answered ok: with status 200 and the bytes of the answer. */
  readonly ok: number;
  /** Calls that the server may have got to see, at most. */
  readonly begun: number;
  /** Calls answered with something else, or not at all; those that the load itself cut off are left out. */
  readonly failed: number;
  /** Milliseconds from a call's first byte sent to its last received. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Runs a tool to its end and returns what it printed. `atFirstWord` is called when it says something. */
export function runTool(
  command: string,
  args: readonly string[],
  atFirstWord?: (child: ChildProcess) => void,
): Promise<{ printed: string; code: number | null }> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      if (printed === "") atFirstWord?.(child);
      printed += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ printed, code }));
  });
}
