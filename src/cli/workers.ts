/**
 * `latchkey serve` with several instances: a primary, which owns the port and the embedded
 * database and answers nothing itself, and workers, which are started again when they end.
 *
 * How many is not guessed from the machine (no 0, no "auto"): the database may be on it too,
 * and each worker is a whole instance with a cache and connections of its own.
 */
import { type ChildProcess, fork } from "node:child_process";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import type { Logger } from "pino";
import { acceptedSecretKey } from "../auth/secret-key.ts";
import type { Config } from "../config.ts";
import { urlOf } from "../db/address.ts";
import { migrate } from "../db/migrate.ts";
import { type OpenedDatabase, openDatabase } from "../db/open.ts";
import { createLog } from "../logger.ts";
import { type MetricsPort, openMetricsPort } from "../metrics-port.ts";
import { banner } from "./banner.ts";
import { type Connections, createConnections } from "./connections.ts";
import { onProgress, stopOnce } from "./serve.ts";
import type { Found, FromWorker, ToWorker } from "./worker-messages.ts";
import { createWorkerMetrics } from "./worker-metrics.ts";

/** Between the ends of a worker and its next start, when it ends again and again: doubled from the one to the other. */
const backOffMs = { least: 250, most: 10_000 };
/** A worker that served for so long ended for a reason of its own, and is replaced at once. */
const provenMs = 10_000;

/** A worker could not start. Its message is for the operator. */
export class WorkerStartError extends Error {
  override name = "WorkerStartError";
}

/** Runs workers until a signal ends them. Rejects, with nothing left running, where they cannot start. */
export async function serveWithWorkers(config: Config): Promise<void> {
  const opened = await openDatabase({ ...config, onProgress });
  const workers = createWorkers(config, opened);
  const stop = stopOnce(
    (exitCode) => {
      workers
        .stop()
        .then((clean) => opened.close().then(() => process.exit(clean ? exitCode : 1)))
        .catch(() => process.exit(1));
    },
    () => {
      workers.kill();
      process.exit(1);
    },
  );
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop(0));
  process.on("uncaughtException", (error) => {
    workers.log.fatal({ err: error }, "an error that nothing caught: stopping");
    stop(1);
  });
  try {
    // Here, so that its failure is told once; the workers find nothing left to do.
    await migrate(opened.listenAddress);
    const secretKey = await acceptedSecretKey(config);
    await workers.start(secretKey);
    const metrics = await workers.listenForMetrics();
    const address = await workers.listen();
    const databaseDescription = opened.description;
    process.stdout.write(
      banner(config, { address, metricsAddress: metrics?.address, databaseDescription, secretKey }),
    );
  } catch (error) {
    await workers.stop();
    await opened.close();
    throw error;
  }
}

interface Workers {
  readonly log: Logger;
  /** Resolves when all are ready; rejects as one says that it cannot start. */
  start(secretKey: string | undefined): Promise<void>;
  listen(): Promise<AddressInfo>;
  /** Opens the metrics port, where there is to be one. */
  listenForMetrics(): Promise<MetricsPort | undefined>;
  /** Lets them finish. Resolves when all have ended: true, when with status 0. */
  stop(): Promise<boolean>;
  /** Ends them at once. */
  kill(): void;
}

function createWorkers(config: Config, opened: OpenedDatabase): Workers {
  const log = createLog({ ...config, level: config.logLevel });
  const connections = createConnections();
  const running = new Map<ChildProcess, Promise<number | null>>();
  const places = new Map<ChildProcess, number>();
  const metrics = createWorkerMetrics(places);
  let metricsPort: MetricsPort | undefined;
  let found: Found = config;
  let stopping = false;
  let started = false;

  /** Starts one and, when it ends, another in its place. `failures`: ends in a row that came too soon. */
  function startOne(
    place: number,
    failures: number,
    onReady: () => void,
    onFailed: (error: Error) => void,
  ): void {
    // dist holds the same files as JavaScript.
    const file = new URL(`./worker${extname(import.meta.filename)}`, import.meta.url);
    const worker = fork(file, [], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      serialization: "advanced",
    });
    const ended = new Promise<number | null>((resolve) => {
      worker.on("error", () => resolve(1));
      worker.once("exit", resolve);
    });
    let readyAtMs: number | undefined;
    worker.on("message", (message: FromWorker) => {
      // One that was told to stop before it was ready says so all the same.
      if (message.kind === "ready" && !stopping) {
        readyAtMs = performance.now();
        connections.add(worker);
        onReady();
      } else if (message.kind === "failed") {
        if (started) log.error(`worker ${worker.pid} cannot start: ${message.message}`);
        onFailed(new WorkerStartError(message.message));
      } else heed(worker, message);
    });
    running.set(worker, ended);
    places.set(worker, place);
    tell(worker, { kind: "start", config, found });

    // Not by "disconnect", which never comes while a socket is on its way. And not at once: what it said
    // last may be unread until the event loop has been round.
    void ended.then(() => setImmediate(() => setImmediate(() => connections.remove(worker))));
    void ended.then((code) => {
      running.delete(worker);
      places.delete(worker);
      if (stopping) return;
      const soon = readyAtMs === undefined || performance.now() - readyAtMs < provenMs;
      const waitMs =
        soon && failures > 0 ? Math.min(backOffMs.most, backOffMs.least * 2 ** (failures - 1)) : 0;
      log.warn(`worker ${worker.pid} ended (${worker.signalCode ?? code}); another starts in ${waitMs} ms`);
      setTimeout(() => {
        if (!stopping) startOne(place, soon ? failures + 1 : 0, onReady, onFailed);
      }, waitMs);
    });
  }

  function heed(worker: ChildProcess, message: FromWorker): void {
    if (message.kind === "stopping") connections.retire(worker);
    else if (message.kind === "taken") connections.onTaken(worker, message.id);
    else if (message.kind === "refused") connections.onRefused(worker, message.id);
    else if (message.kind === "ended") connections.onEnded(worker);
    else if (message.kind === "metrics") metrics.onAnswer(message.id, message.metrics);
  }

  const kill = () => {
    for (const worker of running.keys()) worker.kill("SIGKILL");
  };

  return {
    log,
    async start(secretKey) {
      found = { secretKey, databaseUrl: urlOf(opened.address) };
      const all = Array.from(
        { length: config.workers },
        (_, place) => new Promise<void>((onReady, onFailed) => startOne(place, 0, onReady, onFailed)),
      );
      await Promise.all(all);
      started = true;
    },
    listen: () =>
      listen(connections, config, (error) => log.error({ err: error }, "a connection could not be accepted")),
    async listenForMetrics() {
      const { metricsHost: host, metricsPort: port } = config;
      if (port === undefined) return undefined;
      const onError = (message: string, error: unknown) => log.error({ err: error }, message);
      metricsPort = await openMetricsPort({ host, port, collect: metrics.collect, onError });
      return metricsPort;
    },
    async stop() {
      stopping = true;
      connections.close();
      for (const worker of running.keys()) tell(worker, { kind: "stop" });
      // Each bounds the parts of its stop; this is for one that hangs.
      const timer = setTimeout(kill, 2 * config.shutdownTimeoutMs + 10_000);
      const codes = await Promise.all(running.values());
      clearTimeout(timer);
      await metricsPort?.close();
      return codes.every((code) => code === 0);
    },
    kill,
  };
}

function listen(
  { server }: Connections,
  { host, port }: Config,
  onError: (error: Error) => void,
): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      server.off("error", reject).on("error", onError);
      resolve(server.address() as AddressInfo);
    });
  });
}

/** Says something to a worker, which may be gone. */
function tell(worker: ChildProcess, message: ToWorker): void {
  if (worker.connected) worker.send(message, () => {});
}
