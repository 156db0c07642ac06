/** A worker: one instance that serves the connections which its primary accepted. Started by `workers.ts`, never by hand. */
import type { Socket } from "node:net";
import type { Config } from "../config.ts";
import { createServer, type Server } from "../server.ts";
import { explain } from "./explain.ts";
import { heedUncaught, stopOnce } from "./serve.ts";
import type { Found, FromWorker, ToWorker } from "./worker-messages.ts";

// A primary that is gone hears nothing any more; `disconnect` says so too.
const tell = (message: FromWorker) => process.connected && process.send?.(message, undefined, {}, () => {});

let stopping = false;
let accept: ((socket: Socket) => void) | undefined;
let starting: Promise<Server | undefined> = Promise.resolve(undefined);

const stop = stopOnce(
  (exitCode) => {
    stopping = true;
    tell({ kind: "stopping" });
    starting
      .then((server) => server?.close())
      .then(
        () => process.exit(exitCode),
        () => process.exit(1),
      );
  },
  () => {},
);

async function start(config: Config, found: Found): Promise<Server | undefined> {
  try {
    const server = await createServer({ ...config, ...found });
    heedUncaught(server, stop);
    accept = await server.acceptor();
    tell({ kind: "ready" });
    return server;
  } catch (error) {
    tell({ kind: "failed", message: explain(error, config) });
    process.exitCode = 1;
    process.disconnect?.();
    return undefined;
  }
}

function take(id: number, socket: Socket | undefined): void {
  if (stopping || accept === undefined) {
    // Destroyed, it is not ended: the primary has it open still.
    socket?.destroy();
    tell({ kind: "refused", id });
    return;
  }
  // Before a byte of it is read: from then on no other worker could take it over.
  tell({ kind: "taken", id });
  if (socket === undefined || socket.destroyed) tell({ kind: "ended" });
  else {
    socket.once("close", () => tell({ kind: "ended" }));
    accept(socket);
  }
}

/** Where they cannot be had, the primary does not wait for ever. */
async function tellMetrics(id: number): Promise<void> {
  const server = await starting;
  if (server?.metrics !== undefined) tell({ kind: "metrics", id, metrics: await server.metrics.collect() });
}

process.on("message", (message: ToWorker, socket: Socket | undefined) => {
  if (message.kind === "start") starting = start(message.config, message.found);
  else if (message.kind === "stop") stop(0);
  else if (message.kind === "metrics") tellMetrics(message.id).catch(() => {});
  else take(message.id, socket);
});
// Whatever became of the primary: nobody would stop this worker, nor bring it connections.
process.on("disconnect", () => stop(Number(process.exitCode ?? 0)));
process.on("SIGTERM", () => stop(0));
// A terminal sends it to all at once; that all stop is the primary's to say.
process.on("SIGINT", () => {});
