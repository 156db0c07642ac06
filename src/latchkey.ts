/** Latchkey on a program's own Connect router: the parts of a server, without the server. */
import {
  type ConnectRouter,
  type ContextValues,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { peerAddressKey } from "./auth/call.ts";
import { apiKeyGate } from "./auth/gate.ts";
import { apiKeyInterceptor } from "./auth/interceptor.ts";
import { type Config, withDefaults } from "./config.ts";
import { type Closers, createCore, readyDatabase } from "./core.ts";
import { createLog } from "./logger.ts";
import type { ProgramOptions } from "./program-options.ts";
import { checkAccess } from "./rpc/declared-access.ts";
import { type PeerRequest, peerAddressOf } from "./rpc/peer-address.ts";
import { infrastructure } from "./services.ts";
import { closeAll } from "./stop.ts";

/** Settings of the port and of the process, which are the program's own concern. */
export type HostSetting =
  | "host"
  | "port"
  | "requireDeclaredAccess"
  | "reflection"
  | "trustedProxies"
  | "forwardAuthPath"
  | "corsOrigins"
  | "tlsCert"
  | "tlsKey"
  | "maxMessageBytes"
  | "maxHeaderBytes"
  | "maxStreamsPerConnection"
  | "streamResetBurst"
  | "streamResetRate"
  | "maxConcurrentRpcs"
  | "leanUnary"
  | "maxUnaryMs"
  | "workers"
  | "metricsPort"
  | "metricsHost";

/** The settings that concern keys, verdicts and counting, all of them optional, and what only a program can give. */
export interface LatchkeyOptions extends Partial<Omit<Config, HostSetting>>, ProgramOptions {}

/** What a program gives to a Connect router of its own. */
export interface Latchkey {
  /**
   * An interceptor that authenticates, counts and logs every RPC of its router. Put it first. It ends
   * the streams of a key that ends.
   */
  apiKeyInterceptor(): Interceptor;
  /**
   * A `requestGate`, for the verdict before the body is read. Optional, beside the interceptor, never
   * in place of it.
   */
  apiKeyGate(): (context: HandlerContext) => void | Promise<void>;
  /**
   * Context values of a request, the option `contextValues` of Connect's adapters for Node, Fastify
   * and Express: where calls come from. Without it that is not known: it is missing from the request
   * log, and keys that are bound to addresses are refused. What a proxy says is believed where
   * Fastify or Express were told to (`trustProxy`, `trust proxy`).
   */
  contextValues(req: PeerRequest): ContextValues;
  /** Mounts Latchkey's own services, which manage keys and users and show what happened. */
  routes(router: ConnectRouter): void;
  /**
   * Throws, where methods of the router declare no access, a {@link ConfigError} that names them. Call
   * it once all is mounted.
   */
  requireDeclaredAccess(router: ConnectRouter): void;
  /** What the secret key is; undefined: none is accepted. */
  readonly secretKey: string | undefined;
  /** For people: where the database is. */
  readonly databaseDescription: string;
  /**
   * Commits usage and closes what it has opened of the database. Stop the program's server first:
   * from then on there are no verdicts. May be called more than once.
   */
  close(): Promise<void>;
}

/**
 * Makes Latchkey ready for Connect routers of a program's own, on any of Connect's adapters, its
 * database migrated. It is an instance as a server is: it counts, hears of revocations and keeps the
 * database in order. For a server of its own, with health, limits and deadlines, see
 * {@link createServer}.
 *
 * Rejects, with nothing left open, where it cannot: with a {@link ConfigError} for a setting that it
 * does not take, with a {@link PostgresTooOldError} or {@link EmbeddedPostgresError} for the database.
 */
export async function createLatchkey(options: LatchkeyOptions = {}): Promise<Latchkey> {
  const config = withDefaults(options);
  const closers: Closers = [];
  try {
    return await join(config, options, closers);
  } catch (error) {
    await closeAll(closers);
    throw error;
  }
}

async function join(config: Config, options: LatchkeyOptions, closers: Closers): Promise<Latchkey> {
  const opened = await readyDatabase(config, options, closers);
  const log = createLog({
    level: config.logLevel,
    tokenPrefix: config.tokenPrefix,
    secretKey: opened.secretKey,
    ...(options.logStream && { stream: options.logStream }),
  });
  const onError = (message: string, error: unknown) => log.error({ err: error }, message);
  const core = await createCore(config, options, opened, closers, onError);
  const { verdicts, recorder } = core;

  let closing: Promise<void> | undefined;
  return {
    apiKeyInterceptor: () => apiKeyInterceptor({ ...verdicts, recorder }),
    apiKeyGate: () => apiKeyGate({ ...verdicts, recorder }),
    contextValues: (req) => createContextValues().set(peerAddressKey, peerAddressOf(req)),
    routes: core.mountServices,
    requireDeclaredAccess(router) {
      checkAccess(router.handlers, verdicts.policy, { required: true, exempt: infrastructure });
    },
    secretKey: opened.secretKey,
    databaseDescription: opened.description,
    close() {
      closing ??= closeAll(closers, onError);
      return closing;
    },
  };
}
