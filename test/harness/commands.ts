/** Runs the commands that we print and publish, as they stand. */
import assert from "node:assert/strict";
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { promisify } from "node:util";

// Not in this turn of the event loop: the server that is called may be in this process.
const run = promisify(execFile);

/** The words that a shell makes of a command. */
function shellWords(command: string): string[] {
  const printed = execFileSync("sh", ["-c", `for word in ${command}; do printf '%s\\0' "$word"; done`]);
  return printed.toString().split("\0").slice(0, -1);
}

export const hasCurl = spawnSync("curl", ["--version"]).status === 0;

/** Runs a curl command as it was printed; where there is no curl, does what it says. */
export async function runCurl(command: string, withCurl = hasCurl): Promise<Record<string, unknown>> {
  if (withCurl) return JSON.parse((await run("sh", ["-c", `${command} -sS`])).stdout);
  const words = shellWords(command).slice(1);
  const headers: [string, string][] = [];
  let body = "";
  let url = "";
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "-H") headers.push((words.shift() ?? "").split(": ", 2) as [string, string]);
    else if (word === "-d") body = words.shift() ?? "";
    else url = word;
  }
  const response = await fetch(url, { method: "POST", headers, body });
  assert.ok(response.ok, `${command}: ${response.status}`);
  return (await response.json()) as Record<string, unknown>;
}

/** Does what a grpcurl command says with buf, which npm brings: gRPC, by way of reflection. */
export async function runGrpcurl(command: string): Promise<Record<string, unknown>> {
  const [program, plaintext, ...words] = shellWords(command);
  assert.deepEqual([program, plaintext], ["grpcurl", "-plaintext"]);
  const [method, authority, ...options] = words.reverse();
  const args = ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...options.reverse()];
  return JSON.parse((await run("buf", [...args, `http://${authority}/${method}`])).stdout);
}
