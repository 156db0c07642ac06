#!/usr/bin/env node
/** The process: reads the settings, runs the command, sets the exit status. */
import { bootstrap } from "./cli/bootstrap.ts";
import { explain } from "./cli/explain.ts";
import { serve } from "./cli/serve.ts";
import { readServeArgs } from "./cli/serve-args.ts";
import { UsageError } from "./cli/usage-error.ts";
import { serveWithWorkers } from "./cli/workers.ts";
import { readConfig } from "./config.ts";

const help = `Usage: latchkey [COMMAND]
       latchkey [serve] [--workers N]

Commands:
  serve       run the server (the default); its settings come from the environment
  bootstrap   create a staff user and its API key, and print the token once

Options of serve:
  --workers N   run N instances on the port, each a process (default 1, or LATCHKEY_WORKERS)

Example: PORT=50052 latchkey serve --workers 2
`;

async function main(args: string[]): Promise<void> {
  const [first = "serve"] = args;
  const command = first.startsWith("-") ? "serve" : first;
  const rest = first === command ? args.slice(1) : args;
  const [word = ""] = command === "serve" ? rest : [command];
  if (["--help", "-h", "help"].includes(word)) {
    process.stdout.write(help);
    return;
  }
  if (command === "bootstrap") return bootstrap(rest, () => readConfig(process.env));
  if (command !== "serve" || (word !== "" && !word.startsWith("-"))) {
    throw new UsageError(`${args.join(" ")} is no command\n\n${help}`);
  }
  const config = readConfig({ ...process.env, ...readServeArgs(rest, help) });
  return config.workers === 1 ? serve(config) : serveWithWorkers(config);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`latchkey: ${explain(error, () => readConfig(process.env))}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
});
