#!/usr/bin/env node
/** The process: reads the settings, runs the command, heeds signals, sets the exit status. */
import { banner } from "./cli/banner.ts";
import { bootstrap } from "./cli/bootstrap.ts";
import { explain } from "./cli/explain.ts";
import { UsageError } from "./cli/usage-error.ts";
import { type Config, readConfig } from "./config.ts";
import { createServer } from "./server.ts";

const help = `Usage: latchkey [COMMAND]

Commands:
  serve       run the server (the default); its settings come from the environment
  bootstrap   create a staff user and its API key, and print the token once

Example: PORT=50052 latchkey serve
`;

async function main([command = "serve", ...args]: string[]): Promise<void> {
  const [word = ""] = command === "serve" ? args : [command];
  if (["--help", "-h", "help"].includes(word)) {
    process.stdout.write(help);
    return;
  }
  if (command === "serve" && args.length === 0) return serve(readConfig(process.env));
  if (command === "bootstrap") return bootstrap(args, () => readConfig(process.env));
  throw new UsageError(`${[command, ...args].join(" ")} is no command\n\n${help}`);
}

async function serve(config: Config): Promise<void> {
  const server = await createServer({ ...config, onProgress: (text) => process.stderr.write(`${text}\n`) });

  let stopping = false;
  let stoppingSinceMs = 0;
  const stop = (exitCode: number) => {
    // Asked again, and not by the terminal and npm at the same time: at once.
    if (stopping && performance.now() - stoppingSinceMs > 1000) process.exit(1);
    if (stopping) return;
    stopping = true;
    stoppingSinceMs = performance.now();
    server.close().then(
      () => process.exit(exitCode),
      () => process.exit(1),
    );
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop(0));
  process.on("uncaughtException", (error) => {
    server.app.log.fatal({ err: error }, "an error that nothing caught: stopping");
    stop(1);
  });
  // A promise that nobody waited for harms nobody; one RPC must not end the others.
  process.on("unhandledRejection", (error) =>
    server.app.log.error({ err: error }, "a rejection that nothing caught"),
  );

  try {
    const address = await server.listen();
    process.stdout.write(banner(config, { ...server, address }));
  } catch (error) {
    await server.close();
    throw error;
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`latchkey: ${explain(error, () => readConfig(process.env))}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
});
