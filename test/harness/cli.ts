/** Runs `latchkey` as a person or a script does: a process of its own, in a home of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { appendFileSync, chmodSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { logFile } from "./secrets.ts";
import { newDirectory } from "./server.ts";

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Home {
  /** Where commands run, and where they keep their files. */
  readonly directory: string;
  /** Runs `latchkey` with these arguments and, where given, this standard input. */
  latchkey(args: readonly string[], options?: RunOptions): Promise<Outcome>;
  /** Runs a line of a shell, in which `latchkey` is a command. */
  shell(line: string, options?: RunOptions): Promise<Outcome>;
  /** Starts either, and leaves it running. */
  start(args: readonly string[], options?: RunOptions): Started;
  startShell(line: string, options?: RunOptions): Started;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

export interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  readonly exited: Promise<Outcome>;
  /** Resolves once standard output is as it should be, or the command has ended, however long that takes. */
  printed(isDone: (stdout: string) => boolean): Promise<void>;
  /** What was printed so far. */
  stdout(): string;
  stderr(): string;
}

const main = resolve("src/main.ts");
/** Half of the time of a command goes by until it is compiled. */
const NODE_COMPILE_CACHE = join(process.env.TEST_RUN_DIR ?? newDirectory(), "compile-cache");

/** A home with nothing in it. `env` is set for every command. */
export function newHome(env: Readonly<Record<string, string>> = {}): Home {
  const directory = newDirectory();
  const bin = newDirectory();
  const program = join(bin, "latchkey");
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
  chmodSync(program, 0o755);
  const path = `${bin}:${process.env.PATH ?? ""}`;

  const launch = (file: string, args: readonly string[], options: RunOptions = {}) => {
    const child = spawn(file, args, {
      cwd: directory,
      env: { PATH: path, HOME: directory, PORT: "0", NODE_COMPILE_CACHE, ...env, ...options.env },
      stdio: "pipe",
    });
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
    return watch(child);
  };
  const start = (args: readonly string[], options?: RunOptions) =>
    launch(process.execPath, [main, ...args], options);
  const startShell = (line: string, options?: RunOptions) => launch("sh", ["-c", line], options);
  return {
    directory,
    latchkey: (args, options) => start(args, options).exited,
    shell: (line, options) => startShell(line, options).exited,
    start,
    startShell,
  };
}

function watch(child: ChildProcessWithoutNullStreams): Started {
  let stdout = "";
  let stderr = "";
  const looks = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    for (const look of looks) look();
  });
  const log = logFile();
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    appendFileSync(log, text);
  });
  const exited = new Promise<Outcome>((done) => {
    child.on("close", (code) => done({ code, stdout, stderr }));
  });
  const printed = (isDone: (text: string) => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (isDone(stdout)) resolve();
      };
      looks.add(look);
      look();
      void exited.then(() => resolve());
    });
  return { child, exited, printed, stdout: () => stdout, stderr: () => stderr };
}

/** The lines of a result, each a JSON object. */
export function jsonLines(stdout: string): Record<string, unknown>[] {
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

/** The rows of a table, each by its titles. Cells stand two spaces apart or more. */
export function tableRows(stdout: string): Record<string, string>[] {
  const [head = "", ...lines] = stdout.trimEnd().split("\n");
  const titles = [...head.matchAll(/\S+(?: \S+)*/g)];
  return lines.map((line) => {
    const cells = line.trim().split(/ {2,}/);
    return Object.fromEntries(titles.map(([title], i) => [title, cells[i] ?? ""]));
  });
}
