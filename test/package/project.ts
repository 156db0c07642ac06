/** The project of README's "Mount your own service", made in a temporary folder as a user would: from the packed package. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { logFile } from "../harness/secrets.ts";

export interface Project {
  readonly directory: string;
  /** The packed package. */
  readonly tarball: string;
  /** README's files, by their path. */
  readonly files: ReadonlyMap<string, string>;
  /** README's commands, in their order, a block each. */
  readonly commands: readonly string[];
  /** Runs a command in the project's folder and gives what it printed. Rejects, with all that it said, where it fails. */
  run(command: string): Promise<string>;
  /** Starts `node FILE` and resolves with what it has printed once it says that it listens. */
  start(file: string, env: Record<string, string>): Promise<{ child: ChildProcess; printed: string }>;
  remove(): void;
}

/** Packs the package, writes README's files and installs what README says. */
export async function makeProject(): Promise<Project> {
  const directory = mkdtempSync(join(tmpdir(), "latchkey-project-"));
  const section = readme().match(/^## Mount your own service$[\s\S]*?(?=^## )/m)?.[0] ?? "";
  const files = new Map(
    [...section.matchAll(/^\*\*`([^`]+)`\*\*.*?^```\w+\n(.*?)^```$/gms)].map(([, path = "", text = ""]) => [
      path,
      text,
    ]),
  );
  const commands = [...section.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text = ""]) => text);
  // As in a user's shell: without what npm, the test runner and this project's tests put there.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) =>
        !/^(npm_(?!config_(registry|cache)$)|NODE_(TEST|ENV|OPTIONS)|TEST_|LATCHKEY_|DATABASE_URL|PORT|INIT_CWD)/.test(
          name,
        ),
    ),
  );
  env.PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);

  async function run(command: string, cwd = directory): Promise<string> {
    try {
      const { stdout } = await promisify(execFile)("sh", ["-ec", command], { cwd, env, maxBuffer: 1 << 24 });
      return stdout;
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      throw new Error(`${command} failed:\n${stdout}\n${stderr}`, { cause: error });
    }
  }

  const [packed] = JSON.parse(
    await run(`npm pack --json --pack-destination '${directory}' | sed -n '/^\\[/,$p'`, process.cwd()),
  ) as { filename: string }[];
  const tarball = join(directory, packed?.filename ?? "");
  for (const [path, text] of files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }

  return {
    directory,
    tarball,
    files,
    commands: commands.map((block) => block.replace("npm install latchkey ", `npm install '${tarball}' `)),
    run,
    async start(file, more) {
      const child = spawn(process.execPath, [file], {
        cwd: directory,
        env: { ...env, ...more },
        stdio: ["ignore", "pipe", "pipe"],
      });
      let [printed, said] = ["", ""];
      const log = logFile();
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        appendFileSync(log, text);
      });
      await new Promise<void>((resolve, reject) => {
        child.stdout.setEncoding("utf8").on("data", (text: string) => {
          printed += text;
          if (printed.includes("listening")) resolve();
        });
        child.once("exit", (code) => reject(new Error(`${file} ended with ${code}: ${printed}${said}`)));
      });
      return { child, printed };
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function readme(): string {
  return readFileSync("README.md", "utf8");
}
