/** The Fastify instance on its port: log, limits, TLS, CORS and the answer to unknown paths. */
import { readFile } from "node:fs/promises";
import { cors as connectCors } from "@connectrpc/connect";
import fastifyCors from "@fastify/cors";
import Fastify, { type FastifyInstance, LogController } from "fastify";
import type { Config } from "./config.ts";
import { leadToConsole } from "./console/plugin.ts";
import { createListener, type Listener } from "./listener.ts";
import { loggerOptions } from "./logger.ts";
import { answerNotFound, answerUnknownRpc } from "./rpc/not-found.ts";
import { watchRequestHooks } from "./rpc/request-hooks.ts";

export interface App {
  readonly fastify: FastifyInstance;
  readonly listener: Listener;
  /** Whether somebody, CORS included, has hooked into Fastify's `onRequest`. */
  readonly hooked: () => boolean;
}

/** Creates the instance; nothing listens yet. Rejects where TLS files cannot be read. */
export async function createApp(
  config: Config,
  options: { secretKey: string | undefined; logStream?: { write(line: string): void } },
): Promise<App> {
  const tls = await readTls(config);
  const created: { listener?: Listener } = {};
  const fastify = Fastify({
    logger: loggerOptions({
      level: config.logLevel,
      tokenPrefix: config.tokenPrefix,
      secretKey: options.secretKey,
      ...(options.logStream && { stream: options.logStream }),
    }),
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: config.trustedProxies.length > 0 ? config.trustedProxies : false,
    bodyLimit: config.maxMessageBytes,
    serverFactory(handler) {
      created.listener = createListener(
        {
          ...listenerDefaults,
          ...config,
          nodeHttp: !config.leanUnary,
          ...(tls && { tls }),
          onConnectionError: (error) =>
            fastify.log.error({ err: error }, "a connection was ended by a fault"),
        },
        handler,
      );
      return created.listener.server;
    },
  });
  if (created.listener === undefined) throw new Error("Fastify no longer asks its serverFactory at once");
  const hooked = watchRequestHooks(fastify, [answerUnknownRpc, leadToConsole]);
  if (config.corsOrigins.length > 0) await fastify.register(fastifyCors, corsOptions(config));
  fastify.setNotFoundHandler(answerNotFound);
  return { fastify, listener: created.listener, hooked };
}

/** Timeouts that nobody has needed to set: see ListenerOptions. */
const listenerDefaults = {
  sniffTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  keepAliveTimeoutMs: 72_000,
  requestTimeoutMs: 0,
};

async function readTls(config: Config): Promise<{ cert: Buffer; key: Buffer } | undefined> {
  if (config.tlsCert === undefined || config.tlsKey === undefined) return undefined;
  const [cert, key] = await Promise.all([readFile(config.tlsCert), readFile(config.tlsKey)]);
  return { cert, key };
}

function corsOptions(config: Config) {
  return {
    origin: config.corsOrigins.includes("*") ? "*" : config.corsOrigins,
    methods: [...connectCors.allowedMethods],
    allowedHeaders: [...connectCors.allowedHeaders, config.apiKeyHeader, "Authorization", "X-Request-Id"],
    exposedHeaders: [...connectCors.exposedHeaders, "WWW-Authenticate", "X-Request-Id"],
    maxAge: 7200,
  };
}
