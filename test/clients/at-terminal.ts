/** Runs a program at a real terminal, which Python makes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { resolve } from "node:path";

/** What is typed once a text is on the screen, since what was typed before. */
export type Answer = readonly [after: string, typed: string];

/** Resolves with the exit status and all that the terminal showed. */
export async function atTerminal(
  command: readonly string[],
  answers: readonly Answer[],
  environment: Readonly<Record<string, string | undefined>>,
  directory = ".",
): Promise<{ code: number; screen: string }> {
  const job = JSON.stringify({ command, answers, environment });
  const python = spawn(process.env.TEST_PYTHON ?? "python3", [resolve("test/clients/at_terminal.py"), job], {
    cwd: directory,
  });
  let out = "";
  let error = "";
  python.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  python.stderr.setEncoding("utf8").on("data", (text: string) => {
    error += text;
  });
  await new Promise((done) => python.on("close", done));
  assert.equal(error, "");
  return JSON.parse(out);
}
