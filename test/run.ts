/**
 * Runs the tests against one embedded Postgres, then searches all logs and rows of
 * the run for tokens, secret keys and hashes.
 *
 *   node test/run.ts [--suite NAME] [FILE…]
 *
 * Without files: every test of the suite. `main` (the default) needs npm alone;
 * `clients`, `faults` and `package` are the folders of that name.
 */
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startTestPostgres } from "./harness/postgres.ts";
import { findLeaks } from "./harness/secrets.ts";

const ownSuites = ["clients", "faults", "package"];
const longestRunMs = 20 * 60_000;

const { values, positionals } = parseArgs({
  options: { suite: { type: "string", default: "main" } },
  allowPositionals: true,
});

const files =
  positionals.length > 0
    ? positionals
    : globSync(values.suite === "main" ? "test/**/*.test.ts" : `test/${values.suite}/**/*.test.ts`).filter(
        (file) => values.suite !== "main" || !ownSuites.some((suite) => file.startsWith(`test/${suite}/`)),
      );
if (files.length === 0) throw new Error(`suite ${values.suite} has no test`);

const runDir = await mkdtemp(join(tmpdir(), "latchkey-run-"));
await writeFile(join(runDir, "secrets"), "");
await mkdir(join(runDir, "logs"));
process.env.TEST_RUN_DIR = runDir;
const postgres = await startTestPostgres();
try {
  const failed = await runTests();
  const { leaks, searched } = await findLeaks(runDir, postgres.env.TEST_POSTGRES_URL);
  process.stdout.write(`\nsearched for ${searched}: ${leaks.length} found\n`);
  for (const leak of leaks) process.stdout.write(`  ${leak}\n`);
  if (failed || leaks.length > 0) {
    process.exitCode = 1;
    process.stdout.write(`what the servers of this run logged is in ${join(runDir, "logs")}\n`);
  } else {
    await rm(runDir, { recursive: true });
  }
} finally {
  await postgres.stop();
}

function runTests(): Promise<boolean> {
  const env = { ...process.env, ...postgres.env, TEST_RUN_DIR: runDir };
  const child = spawn(
    process.execPath,
    [
      "--test",
      "--test-concurrency=2",
      "--test-timeout=120000",
      ...["--test-reporter=spec", "--test-reporter-destination=stdout"],
      ...["--test-reporter=./test/harness/report-failures.ts", "--test-reporter-destination=stderr"],
      ...files.sort(),
    ],
    {
      stdio: "inherit",
      env,
    },
  );
  // A test that failed may leave connections open, and with them its file: the run must end all the same.
  // Not by --test-force-exit, which also cuts off reports that are not written yet.
  setTimeout(() => {
    process.stderr.write("the tests do not end: stopping them\n");
    child.kill("SIGTERM");
  }, longestRunMs).unref();
  // Asked to stop, it stops what it started first.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code !== 0));
  });
}
