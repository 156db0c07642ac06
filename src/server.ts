/** The one place where the parts are joined. */
import { setMaxListeners } from "node:events";
import { readFile } from "node:fs/promises";
import type { AddressInfo, Socket } from "node:net";
import { hostname } from "node:os";
import type { ConnectRouter } from "@connectrpc/connect";
import type { TracerProvider } from "@opentelemetry/api";
import type { FastifyInstance } from "fastify";
import { v7 as uuidv7 } from "uuid";
import { createApp } from "./app.ts";
import { methodName } from "./auth/method-name.ts";
import { developmentSecretKey } from "./auth/secret-key.ts";
import { createRedactor } from "./auth/token.ts";
import { type Config, withDefaults } from "./config.ts";
import { database } from "./db/client.ts";
import { createHousekeeping } from "./db/housekeeping.ts";
import { migrate } from "./db/migrate.ts";
import { type OpenedDatabase, openDatabase } from "./db/open.ts";
import { createPools } from "./db/pools.ts";
import { Health as HealthService } from "./gen/health/v1/health_pb.js";
import { createLogTails } from "./logs/tail.ts";
import { createTailStore } from "./logs/tail-store.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { type MetricsPort, openMetricsPort } from "./metrics-port.ts";
import { createHealth } from "./rpc/health.ts";
import { mountRpcs } from "./rpc/mount.ts";
import { mountProbes } from "./rpc/probes.ts";
import { recordTraces } from "./rpc/traces.ts";
import { infrastructure, mountInfrastructure, mountServices } from "./services.ts";
import { closeAll, drain } from "./stop.ts";
import { countCalls, createCallMetrics } from "./usage/call-metrics.ts";
import { createCommitMetrics } from "./usage/commit-metrics.ts";
import { keepFolded } from "./usage/fold.ts";
import { foldedUntil } from "./usage/fold-store.ts";
import { createRecorder } from "./usage/recorder.ts";
import { createUsageStore } from "./usage/store.ts";
import { seedUsers } from "./users/seed.ts";
import { createVerdicts } from "./verdicts.ts";

/** Every setting, all of them optional, and what only a program can give. */
export interface ServerOptions extends Partial<Omit<Config, "workers">> {
  /** Mounts services of one's own beside Latchkey's. */
  routes?: (router: ConnectRouter) => void;
  /** Where the server's log goes, a JSON line each; default standard error. */
  logStream?: { write(line: string): void };
  /** Makes a span of each RPC; default: the provider that is registered with `@opentelemetry/api`, while there is one. */
  tracerProvider?: TracerProvider;
  /** Told of what takes a while at the start, for people. */
  onProgress?: (message: string) => void;
}

export interface Server {
  /** For routes, hooks and plugins of one's own. RPCs pass its onRequest hooks only. */
  readonly app: FastifyInstance;
  /** Undefined: none is accepted. */
  readonly secretKey: string | undefined;
  /** For people: where the database is. */
  readonly databaseDescription: string;
  /** Undefined without `metricsPort`: nothing is counted for them. */
  readonly metrics: Metrics | undefined;
  /** Where `/metrics` is; undefined until `listen`, and without `metricsPort`. */
  readonly metricsAddress: AddressInfo | undefined;
  /** Starts to listen, on the metrics port too. Rejects when one is taken. */
  listen(): Promise<AddressInfo>;
  /**
   * Readies it for connections that another process accepted and handed over, in place of
   * `listen`. Resolves with what takes them, unread; whoever calls it lets go of the socket.
   */
  acceptor(): Promise<(socket: Socket) => void>;
  /**
   * Stops: takes no new request, lets running ones finish within
   * `shutdownTimeoutMs`, commits usage and closes the database.
   */
  close(): Promise<void>;
}

/**
 * Creates a server, its database migrated and ready. Rejects, with nothing left
 * open, where it cannot: with a ConfigError for a setting that it does not take.
 */
export async function createServer(options: ServerOptions = {}): Promise<Server> {
  const config = withDefaults(options);
  const { onProgress } = options;
  const opened = await openDatabase({ ...config, ...(onProgress && { onProgress }) });
  const closers: (() => Promise<unknown>)[] = [() => opened.close()];
  try {
    return await join(config, options, opened, closers);
  } catch (error) {
    await closeAll(closers);
    throw error;
  }
}

async function join(
  config: Config,
  options: ServerOptions,
  opened: OpenedDatabase,
  closers: (() => Promise<unknown>)[],
): Promise<Server> {
  await migrate(opened.listenAddress);
  const secretKey = config.acceptSecretKey
    ? (config.secretKey ?? (await developmentSecretKey(config.dataDir)))
    : undefined;

  const {
    fastify: app,
    listener,
    hooked,
  } = await createApp(config, {
    secretKey,
    ...(options.logStream && { logStream: options.logStream }),
  });
  const onError = (message: string, error: unknown) => app.log.error({ err: error }, message);

  const pools = createPools(opened, config.listenDatabaseUrl !== undefined);
  closers.unshift(() => pools.close());
  const db = database(pools.open("requests", 10));
  const housekeeping = createHousekeeping({
    db: database(pools.open("housekeeping", 1)),
    ...config,
    foldedUntil,
    onError,
  });
  closers.unshift(() => housekeeping.close());
  await housekeeping.start();
  if (!config.production) await seedUsers(db);

  const instance = {
    id: uuidv7(),
    hostname: hostname(),
    pid: process.pid,
    version: await packageVersion(),
    startedAt: new Date(),
  };
  const verdicts = await createVerdicts({
    pools,
    config,
    secretKey,
    instanceId: instance.id,
    publicMethods: [`${HealthService.typeName}/*`],
    onError,
  });
  closers.unshift(() => verdicts.close());

  const tails = createLogTails({
    store: createTailStore(database(pools.open("tail", 1)), instance.id),
    onError,
  });
  closers.unshift(() => tails.close());

  const unlogged = new Set(config.logInfrastructure ? [] : infrastructure.map((service) => service.typeName));
  const redact = createRedactor(config.tokenPrefix);
  const commits = createCommitMetrics();
  const usage = createRecorder({
    write: commits.watch(createUsageStore({ db: database(pools.open("usage", 1)), instance, redact })),
    durability: config.usageDurability,
    records: (method) => !unlogged.has(method.service),
    onError,
  });
  closers.unshift(() => usage.close(Math.max(1000, config.shutdownTimeoutMs)));
  const calls = createCallMetrics();
  const counted = config.metricsPort === undefined ? usage : countCalls(usage, calls);
  const recorder = recordTraces(counted, { provider: options.tracerProvider, redact });

  // An hour of a million keys takes a while.
  const folding = keepFolded(database(pools.open("rollups", 1, 600_000)), onError);
  closers.unshift(async () => folding.stop());

  const shutdown = new AbortController();
  // Every running RPC listens to it.
  setMaxListeners(0, shutdown.signal);
  const health = createHealth([]);
  const rpcs = mountRpcs(app, {
    routes(router) {
      mountServices(router, {
        db,
        tokenPrefix: config.tokenPrefix,
        verification: { ...verdicts, apiKeyHeader: config.apiKeyHeader, recorder },
        tails,
      });
      options.routes?.(router);
      mountInfrastructure(router, health, config.reflection);
    },
    authorizer: verdicts.authorizer,
    streams: verdicts.streams,
    recorder,
    listener,
    hooked,
    uncapped: [HealthService],
    shutdownSignal: shutdown.signal,
    ...config,
  });
  // Now, rather than at the first call: an access level that is unknown refuses to start.
  for (const { method } of rpcs.handlers) {
    verdicts.policy.of(method);
    calls.mounted(methodName(method));
  }
  verdicts.fence.onDatabaseUp((up) => health.setServing(up));
  mountProbes(app, health);

  const { metricsHost, metricsPort } = config;
  const metrics =
    metricsPort === undefined
      ? undefined
      : createMetrics({
          version: instance.version,
          ...{ listener, rpcs, verdicts, usage, pools, tails, health },
          counted: [calls, commits],
        });
  let openedMetrics: MetricsPort | undefined;

  let closing: Promise<void> | undefined;
  return {
    app,
    secretKey,
    databaseDescription: opened.description,
    metrics,
    get metricsAddress() {
      return openedMetrics?.address;
    },
    async listen() {
      if (metrics !== undefined && metricsPort !== undefined) {
        const collect = async () => [await metrics.collect()];
        openedMetrics = await openMetricsPort({ host: metricsHost, port: metricsPort, collect, onError });
        closers.unshift(openedMetrics.close);
      }
      await app.listen({
        host: config.host,
        port: config.port,
        listenTextResolver: (address) => `listening on ${address}`,
      });
      return app.server.address() as AddressInfo;
    },
    async acceptor() {
      await app.ready();
      return (socket) => listener.accept(socket);
    },
    close() {
      closing ??= (async () => {
        health.close();
        void tails.close();
        await drain(rpcs, listener, shutdown, config.shutdownTimeoutMs);
        await app.close();
        await closeAll(closers, onError);
      })();
      return closing;
    },
  };
}

async function packageVersion(): Promise<string> {
  const text = await readFile(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
