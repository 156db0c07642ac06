/** Mounts services: where an RPC enters, and which path it takes to its handler. */
import type { ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  createConnectRouter,
  createServiceImplSpec,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { FastifyInstance } from "fastify";
import type { Authorizer } from "../auth/authorizer.ts";
import type { CallRecorder } from "../auth/call.ts";
import { apiKeyGate } from "../auth/gate.ts";
import { apiKeyInterceptor } from "../auth/interceptor.ts";
import type { OpenStreams } from "../auth/open-streams.ts";
import type { Listener } from "../listener.ts";
import { createAdmission } from "./admission.ts";
import { boundaryInterceptor, createBoundary } from "./boundary.ts";
import { createLeanPath } from "./lean/lean-path.ts";
import type { UnaryMethod } from "./lean/unary-method.ts";
import { answerUnknownRpc } from "./not-found.ts";
import { createPeerAddress } from "./peer-address.ts";
import { RunningRpc } from "./running-rpc.ts";
import { createStock } from "./stock.ts";

export interface MountOptions {
  routes: (router: ConnectRouter) => void;
  authorizer: Authorizer;
  recorder: CallRecorder;
  streams: OpenStreams;
  /** What runs after authentication; the first one is outermost. */
  interceptors: readonly Interceptor[];
  /** Where unary RPCs are met before Fastify is asked. */
  listener: Listener;
  /** Whether somebody has hooked into Fastify's `onRequest`; asked once the app is ready. */
  hooked: () => boolean;
  /** False: every RPC goes by Connect's own handlers. */
  leanUnary: boolean;
  /** Bytes of one message, each way. */
  maxMessageBytes: number;
  /** Milliseconds that a unary RPC may take, and its client to take the answer; 0: no limit of the server's own. */
  maxUnaryMs: number;
  /**
   * RPCs at once; more are answered `resource_exhausted`. Anonymous callers get half
   * of them, and those whose credential is still looked up a quarter.
   */
  maxConcurrentRpcs: number;
  /** Services that are answered however many RPCs run. */
  uncapped: readonly DescService[];
  trustedProxies: readonly string[];
  /** Aborts what still runs when a stop has waited long enough. */
  shutdownSignal: AbortSignal;
}

/** The RPCs of a server. */
export interface MountedRpcs {
  readonly handlers: readonly UniversalHandler[];
  /** RPCs that run now. */
  readonly running: number;
  /** RPCs refused because too many ran, since the start. */
  readonly refused: number;
  /** Resolves when none runs. */
  idle(): Promise<void>;
}

/**
 * Mounts the routes. A unary RPC of the usual form takes the lean path, straight from
 * the listener; every other one goes through Fastify to Connect's handlers. Where
 * somebody has hooked into Fastify's `onRequest`, all of them pass its router and those
 * hooks first. Either way the response is written past Fastify.
 *
 * The routes stand on a Fastify instance of their own, so that parsing no body is
 * nobody else's concern.
 */
export function mountRpcs(app: FastifyInstance, options: MountOptions): MountedRpcs {
  const admission = createAdmission(options);
  const uncapped = new Set(options.uncapped.map((service) => service.typeName));
  const isUncapped = (service: string) => uncapped.has(service);
  const peerAddress = createPeerAddress(options.trustedProxies);
  const boundary = createBoundary(app.log);
  const acceptCompression = [compressionGzip, compressionBrotli];

  const { authorizer, recorder, hooked } = options;
  const router = createConnectRouter({
    acceptCompression,
    readMaxBytes: options.maxMessageBytes,
    writeMaxBytes: options.maxMessageBytes,
    shutdownSignal: options.shutdownSignal,
    interceptors: [boundaryInterceptor(boundary), apiKeyInterceptor(options), ...options.interceptors],
    requestGate: admitted(apiKeyGate({ authorizer, recorder })),
  });
  const unary = new Map<DescMethod, UnaryMethod>();
  options.routes(noting(router, unary));
  checkMountedOnce(router.handlers);

  const stock = createStock({ ...options, admission, peerAddress, isUncapped });
  const lean = createLeanPath({
    ...options,
    methods: options.leanUnary ? [...unary.values()] : [],
    admission,
    peerAddress,
    isUncapped,
    boundary,
    acceptCompression,
  });

  /** The gate, and whether there is room for whoever passes it. */
  function admitted(gate: ReturnType<typeof apiKeyGate>): ReturnType<typeof apiKeyGate> {
    function admit({ place, call }: RunningRpc): void {
      const isAnonymous = call !== undefined && call.verdict?.principal === undefined;
      const refusal = admission.decided(place, isAnonymous);
      if (refusal !== undefined) throw refusal;
    }
    return async (context) => {
      const rpc = RunningRpc.of(context);
      if (rpc === undefined) return gate(context);
      try {
        rpc.begin(context);
        if (rpc.refusal !== undefined) throw rpc.refusal;
        const passed = gate(context);
        if (passed !== undefined) await admission.waitFor(rpc.place, passed);
        admit(rpc);
      } catch (error) {
        admission.refused(rpc.place);
        throw error;
      }
    };
  }

  app.addHook("onRequest", answerUnknownRpc);
  app.addHook("onReady", async () => {
    if (!hooked()) options.listener.takeUnary(lean);
  });
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_req, _payload, done) => done(null));
    for (const handler of router.handlers) {
      scope.all(handler.requestPath, (req, reply) => {
        reply.hijack();
        // Its client left while hooks ran: nothing is begun that nobody would hear the end of.
        if (isGone(reply.raw)) return;
        const serve = () =>
          stock(handler, req, reply, lean.passedOn(req.raw)).catch((error: unknown) => {
            // Only what happens while writing ends here: the client is gone, or nearly always so.
            req.log.debug({ err: error, rpc: handler.requestPath }, "a response could not be written");
            reply.raw.destroy();
          });
        if (!hooked() || !lean.takeHooked(req.raw, reply.raw, reply.getHeaders(), serve)) serve();
      });
    }
  });

  return {
    handlers: router.handlers,
    get running() {
      return admission.running;
    },
    get refused() {
      return admission.refusals;
    },
    idle: () => admission.idle(),
  };
}

/** A router that notes the unary methods which are mounted without options of their own. */
function noting(router: ConnectRouter, unary: Map<DescMethod, UnaryMethod>): ConnectRouter {
  const note = (method: DescMethod, impl: unknown) => {
    if (method.methodKind !== "unary") return;
    unary.set(method, { method: method as UnaryMethod["method"], impl: impl as UnaryMethod["impl"] });
  };
  const noted: ConnectRouter = {
    handlers: router.handlers,
    service(service, implementation, options) {
      router.service(service, implementation, options);
      if (options === undefined) {
        const spec = createServiceImplSpec(service, implementation);
        for (const { method, impl } of Object.values(spec.methods)) note(method, impl);
      }
      return noted;
    },
    rpc(method, impl, options) {
      router.rpc(method, impl, options);
      if (options === undefined) note(method, impl);
      return noted;
    },
  };
  return noted;
}

/** Fastify would say so too, but only when it listens, and of a route. */
function checkMountedOnce(handlers: readonly UniversalHandler[]): void {
  const paths = new Set<string>();
  for (const { requestPath } of handlers) {
    if (paths.has(requestPath)) throw new Error(`the method ${requestPath.slice(1)} is mounted twice`);
    paths.add(requestPath);
  }
}

function isGone(res: ServerResponse | Http2ServerResponse): boolean {
  return "stream" in res ? res.stream.destroyed || res.stream.closed : res.destroyed;
}
