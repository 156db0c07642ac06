/** `latchkey serve` with one instance: this process. */
import type { Config } from "../config.ts";
import { createServer, type Server } from "../server.ts";
import { banner } from "./banner.ts";

/** Runs a server until a signal ends the process. Rejects, with nothing left open, where it cannot start. */
export async function serve(config: Config): Promise<void> {
  const server = await createServer({ ...config, onProgress });
  const stop = stopOnce((exitCode) => {
    server.close().then(
      () => process.exit(exitCode),
      () => process.exit(1),
    );
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop(0));
  heedUncaught(server, stop);
  try {
    const address = await server.listen();
    process.stdout.write(banner(config, { ...server, address }));
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** What takes a while at the start, for people. */
export const onProgress = (text: string): void => void process.stderr.write(`${text}\n`);

/** A stop that is begun once. Asked for again, and not by the terminal and npm at the same time, it is `atOnce`. */
export function stopOnce(
  begin: (exitCode: number) => void,
  atOnce: () => void = () => process.exit(1),
): (exitCode: number) => void {
  let sinceMs: number | undefined;
  return (exitCode) => {
    if (sinceMs === undefined) {
      sinceMs = performance.now();
      begin(exitCode);
    } else if (performance.now() - sinceMs > 1000) atOnce();
  };
}

/** Logs what nothing caught. An error stops the process. */
export function heedUncaught(server: Server, stop: (exitCode: number) => void): void {
  process.on("uncaughtException", (error) => {
    server.app.log.fatal({ err: error }, "an error that nothing caught: stopping");
    stop(1);
  });
  // A promise that nobody waited for harms nobody; one RPC must not end the others.
  process.on("unhandledRejection", (error) =>
    server.app.log.error({ err: error }, "a rejection that nothing caught"),
  );
}
