#!/usr/bin/env node
/** The process: reads the settings, runs the command, heeds signals, sets the exit status. */
import { ConnectError } from "@connectrpc/connect";
import { banner } from "./cli/banner.ts";
import { bootstrap } from "./cli/bootstrap.ts";
import { UsageError } from "./cli/usage-error.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { EmbeddedPostgresError } from "./db/embedded/embedded.ts";
import { describeUrl } from "./db/open.ts";
import { createServer } from "./server.ts";

const help = `Usage: latchkey [COMMAND]

Commands:
  serve       run the server (the default); its settings come from the environment
  bootstrap   create a staff user and its API key, and print the token once

Example: PORT=50052 latchkey serve
`;

async function main([command = "serve", ...args]: string[]): Promise<void> {
  if (command === "--help" || command === "-h" || command === "help") {
    process.stdout.write(help);
    return;
  }
  if (command === "serve" && args.length === 0) return serve(readConfig(process.env));
  if (command === "bootstrap") return bootstrap(args, readConfig(process.env));
  throw new UsageError(`${[command, ...args].join(" ")} is no command\n\n${help}`);
}

async function serve(config: Config): Promise<void> {
  const server = await createServer(config, { onProgress: (text) => process.stderr.write(`${text}\n`) });

  let stopping = false;
  const stop = (exitCode: number) => {
    if (stopping) return;
    stopping = true;
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

/** What is wrong and what to do, where that is known. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const known = [ConfigError, UsageError, EmbeddedPostgresError];
  if (known.some((type) => error instanceof type)) return error.message;
  if (error instanceof ConnectError) return error.rawMessage;
  const code = codeOf(error);
  if (code === "EADDRINUSE") {
    return `${process.env.HOST || "127.0.0.1"}:${process.env.PORT || 50051} is taken by another process: stop it, or set PORT to another port`;
  }
  if (code === "EACCES" || code === "EADDRNOTAVAIL")
    return `cannot listen: ${error.message}. Set HOST and PORT`;
  const url = process.env.DATABASE_URL;
  if (url !== undefined && code !== undefined) {
    return `cannot use ${describeUrl(url)} (${code}: ${rootMessage(error)}). Check DATABASE_URL and that the server runs`;
  }
  return error.stack ?? error.message;
}

function codeOf(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ("code" in e && typeof e.code === "string") return e.code;
  }
  return undefined;
}

function rootMessage(error: Error): string {
  return error.cause instanceof Error ? rootMessage(error.cause) : error.message;
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`latchkey: ${explain(error)}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
});
