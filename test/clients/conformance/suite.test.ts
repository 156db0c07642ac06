/** Connect's conformance suite, which calls a server some 5000 times in all that the protocols allow and forbid. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { createTestDatabase } from "../../harness/postgres.ts";
import { newDirectory } from "../../harness/server.ts";

const folder = "test/clients/conformance";
const timeout = 600_000;
/** Fewer, and something is amiss with the configuration: cases that are not asked for do not fail. */
const leastCases = 5000;

/** Where `.ci/run` puts the suite: the program, and the proto files of its contract. */
function findSuite(): { program: string; protos: string } {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const suite = process.env.TEST_CONFORMANCE || join(cache, "latchkey", "conformance");
  const program = join(suite, "connectconformance");
  const protos = join(suite, "proto");
  for (const path of [program, protos]) {
    if (existsSync(path)) continue;
    throw new Error(
      `there is no ${path}: go install connectrpc.com/conformance/cmd/connectconformance, put the program and the ` +
        `module's folder proto into a folder, and set TEST_CONFORMANCE to it; .ci/run does that`,
    );
  }
  return { program, protos };
}

let program: string;
let env: NodeJS.ProcessEnv;
before(async () => {
  const suite = findSuite();
  program = suite.program;
  const image = join(newDirectory(), "contract.binpb");
  const args = ["build", suite.protos, "--as-file-descriptor-set", "-o", image];
  await promisify(execFile)("node_modules/.bin/buf", args);
  // One for all: the suite waits 10 s for a server to start, and creating a database may take a while.
  env = { ...process.env, CONFORMANCE_CONTRACT: image, DATABASE_URL: await createTestDatabase() };
});

interface Run {
  readonly code: number | null;
  readonly output: string;
}

function run(args: string[], more: Record<string, string> = {}): Promise<Run> {
  const child = spawn(program, ["--mode", "server", ...args, "--", process.execPath, `${folder}/server.ts`], {
    env: { ...env, ...more },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

for (const leanUnary of [true, false]) {
  test(`the conformance suite passes, ${leanUnary ? "with" : "without"} the lean unary path`, {
    timeout,
  }, async (t) => {
    const args = ["--conf", `${folder}/config.yaml`, "--max-servers", "2"];
    const { code, output } = await run(args, { LATCHKEY_LEAN_UNARY: String(leanUnary) });
    const [, total, passed] = output.match(/^Total cases: (\d+)\n(\d+) passed, 0 failed$/m) ?? [];
    assert.ok(code === 0 && total !== undefined && total === passed, output.slice(-20_000));
    assert.ok(Number(total) >= leastCases, `${total} cases`);
    t.diagnostic(`${total} cases`);
  });
}
