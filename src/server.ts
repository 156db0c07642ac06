/** The one place where the parts are joined. */
import { setMaxListeners } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import type { ConnectRouter, Interceptor, Transport } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import { createApp } from "./app.ts";
import { mountForwardAuth } from "./auth/forward-auth.ts";
import { methodName } from "./auth/method-name.ts";
import { type Config, withDefaults } from "./config.ts";
import { serveConsole } from "./console/plugin.ts";
import { type Closers, createCore, readyDatabase } from "./core.ts";
import { Health as HealthService } from "./gen/health/v1/health_pb.js";
import { createMetrics } from "./metrics.ts";
import { type MetricsPort, openMetricsPort } from "./metrics-port.ts";
import type { ProgramOptions } from "./program-options.ts";
import { checkAccess } from "./rpc/declared-access.ts";
import { createHealth } from "./rpc/health.ts";
import { createInProcessClients, type TransportOptions } from "./rpc/in-process.ts";
import { mountRpcs } from "./rpc/mount.ts";
import { mountProbes } from "./rpc/probes.ts";
import { infrastructure, mountInfrastructure } from "./services.ts";
import { closeAll, drain } from "./stop.ts";
import type { Metrics } from "./usage/metric.ts";

/** Every setting, all of them optional, and what only a program can give. */
export interface ServerOptions extends Partial<Omit<Config, "workers">>, ProgramOptions {
  /** Mounts services of one's own beside Latchkey's. */
  routes?: (router: ConnectRouter) => void;
  /**
   * Interceptors of every RPC, Latchkey's own services included; the first one is outermost. They run
   * after authentication: `context.values` has the principal (see {@link principalKey}), what was
   * refused does not reach them, and what they refuse is counted and logged with their code. Those of
   * one service alone are an option of `router.service`.
   */
  interceptors?: Interceptor[];
  /**
   * Registers Fastify plugins, hooks and routes of one's own, before any RPC is mounted. RPCs pass
   * `onRequest` hooks, which run before authentication, and no others: their responses are written
   * past Fastify. Other routes pass all hooks and no authentication.
   */
  plugins?: (app: FastifyInstance) => void | Promise<void>;
}

/** A server, its database migrated and ready. */
export interface Server {
  /** The Fastify instance: its log, its `inject`, and what `plugins` has decorated it with. */
  readonly app: FastifyInstance;
  /** What the secret key is; undefined: none is accepted. */
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
   * Creates a transport for clients in this process, such as tests, whether or not the server
   * listens. Verdicts, limits, counting and logging are those of any other client. Calls reject as
   * `unavailable` once the server is closed.
   */
  transport(options?: TransportOptions): Transport;
  /**
   * Readies it for connections that another process accepted and handed over, in place of
   * `listen`. Resolves with what takes them, unread; whoever calls it lets go of the socket.
   */
  acceptor(): Promise<(socket: Socket) => void>;
  /**
   * Stops: takes no new request, lets running ones finish within
   * `shutdownTimeoutMs`, commits usage and closes what it has opened of the database. May be called
   * more than once.
   */
  close(): Promise<void>;
}

/**
 * Creates a server, its database migrated and ready. Rejects, with nothing left
 * open, where it cannot: with a {@link ConfigError} for a setting that it does not take, with a
 * {@link PostgresTooOldError} or {@link EmbeddedPostgresError} for the database, and with what
 * `routes` and `plugins` throw.
 */
export async function createServer(options: ServerOptions = {}): Promise<Server> {
  const config = withDefaults(options);
  const closers: Closers = [];
  try {
    return await join(config, options, closers);
  } catch (error) {
    await closeAll(closers);
    throw error;
  }
}

async function join(config: Config, options: ServerOptions, closers: Closers): Promise<Server> {
  const opened = await readyDatabase(config, options, closers);
  const {
    fastify: app,
    listener,
    hooked,
  } = await createApp(config, {
    secretKey: opened.secretKey,
    ...(options.logStream && { logStream: options.logStream }),
  });
  const onError = (message: string, error: unknown) => app.log.error({ err: error }, message);
  const core = await createCore(config, options, opened, closers, onError);
  const { verdicts, recorder } = core;
  closers.unshift(() => app.close());
  await options.plugins?.(app);

  const shutdown = new AbortController();
  // Every running RPC listens to it.
  setMaxListeners(0, shutdown.signal);
  const health = createHealth([]);
  if (config.console) await serveConsole(app);
  const rpcs = mountRpcs(app, {
    routes(router) {
      core.mountServices(router, () => rpcs.running);
      options.routes?.(router);
      mountInfrastructure(router, health, config.reflection);
    },
    authorizer: verdicts.authorizer,
    streams: verdicts.streams,
    interceptors: options.interceptors ?? [],
    recorder,
    listener,
    hooked,
    uncapped: [HealthService],
    shutdownSignal: shutdown.signal,
    ...config,
  });
  const { forwardAuthPath: path, trustedProxies, maxConcurrentRpcs: maxConcurrent } = config;
  if (path !== undefined) mountForwardAuth(app, { ...core.inquiries, path, trustedProxies, maxConcurrent });
  checkAccess(rpcs.handlers, verdicts.policy, {
    required: config.requireDeclaredAccess,
    exempt: infrastructure,
  });
  for (const { method } of rpcs.handlers) core.mounted(methodName(method));
  verdicts.fence.onDatabaseUp((up) => health.setServing(up));
  mountProbes(app, health);

  const { metricsHost, metricsPort } = config;
  const metrics =
    metricsPort === undefined ? undefined : createMetrics({ ...core.figures, listener, rpcs, health });
  let openedMetrics: MetricsPort | undefined;

  async function acceptor() {
    await app.ready();
    return (socket: Socket) => listener.accept(socket);
  }
  const clients = createInProcessClients({ acceptor, apiKeyHeader: config.apiKeyHeader });

  let closing: Promise<void> | undefined;
  return {
    app,
    secretKey: opened.secretKey,
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
    transport: clients.transport,
    acceptor,
    close() {
      closing ??= (async () => {
        health.close();
        void core.tails.close();
        clients.close();
        await drain(rpcs, listener, shutdown, config.shutdownTimeoutMs);
        await closeAll(closers, onError);
      })();
      return closing;
    },
  };
}
