/** Connect's conformance suite, which calls a server some 5000 times in all that the protocols allow and forbid. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { pem } from "../../harness/pem.ts";
import { newDirectory, startServer, type TestServer } from "../../harness/server.ts";
import { readContract } from "./schema.ts";
import { conformanceService } from "./service.ts";

const folder = "test/clients/conformance";
const timeout = 600_000;
/** The limit that the suite tests a server's by. */
const maxMessageBytes = 200 * 1024;
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
let contractFile: string;
before(async () => {
  const suite = findSuite();
  program = suite.program;
  contractFile = join(newDirectory(), "contract.binpb");
  const args = ["build", suite.protos, "--as-file-descriptor-set", "-o", contractFile];
  await promisify(execFile)("node_modules/.bin/buf", args);
});

/** One server for all of it, TLS and plain text, HTTP/1.1 and HTTP/2, on one port. */
async function startConformance(leanUnary: boolean): Promise<TestServer> {
  const contract = readContract(contractFile);
  const directory = newDirectory();
  const [tlsCert, tlsKey] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  await writeFile(tlsCert, pem.cert);
  await writeFile(tlsKey, pem.key);
  return startServer(
    { tlsCert, tlsKey, maxMessageBytes, leanUnary },
    {
      routes(router) {
        router.service(contract.service, conformanceService(contract), {
          // What was seen is told as google.protobuf.Any, which JSON needs types for.
          jsonOptions: { registry: contract.registry },
          // The suite limits what is received alone; what it sends, it is sent back, which is more.
          writeMaxBytes: 4 * maxMessageBytes,
        });
      },
    },
  );
}

function run(port: number): Promise<{ code: number | null; output: string }> {
  const args = [
    "--mode",
    "server",
    "--conf",
    `${folder}/config.yaml`,
    "--",
    process.execPath,
    `${folder}/announce.ts`,
  ];
  const child = spawn(program, args, {
    env: {
      ...process.env,
      CONFORMANCE_CONTRACT: contractFile,
      CONFORMANCE_PORT: String(port),
      CONFORMANCE_LIMIT: String(maxMessageBytes),
    },
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
  const how = leanUnary ? "with" : "without";
  test(`the conformance suite passes, ${how} the lean unary path`, { timeout }, async (t) => {
    const latchkey = await startConformance(leanUnary);
    t.after(() => latchkey.close());
    const { code, output } = await run(latchkey.port);
    const [, total, passed] = output.match(/^Total cases: (\d+)\n(\d+) passed, 0 failed$/m) ?? [];
    assert.ok(code === 0 && total !== undefined && total === passed, output.slice(-20_000));
    assert.ok(Number(total) >= leastCases, `${total} cases`);
    t.diagnostic(`${total} cases`);
  });
}
