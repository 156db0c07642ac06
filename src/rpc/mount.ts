/** Mounts Connect's handlers on Fastify: where an RPC enters, and where it leaves. */

import type { DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ContextValues,
  createConnectRouter,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import type {
  UniversalHandler,
  UniversalServerRequest,
  UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type CallRecorder, cannotCount } from "../auth/call.ts";
import { refuseBody } from "../request-body.ts";
import { answerStream, answerUnary } from "./answer.ts";
import { createDeadline, dropFarDeadline } from "./deadline.ts";
import { refuseDamagedQuery } from "./get-message.ts";
import { answerUnknownRpc } from "./not-found.ts";
import { peerAddress } from "./peer-address.ts";
import { RunningRpc } from "./running-rpc.ts";

export interface MountOptions {
  routes: (router: ConnectRouter) => void;
  /** Decides before the body is read; see `apiKeyGate`. */
  gate: (context: HandlerContext) => void | Promise<void>;
  /** The first one is outermost. */
  interceptors: Interceptor[];
  recorder: CallRecorder;
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
  /** Aborts what still runs when a stop has waited long enough. */
  shutdownSignal: AbortSignal;
}

/** The RPCs of a server. */
export interface MountedRpcs {
  readonly handlers: readonly UniversalHandler[];
  /** RPCs that run now. */
  readonly running: number;
  /** Resolves when none runs. */
  idle(): Promise<void>;
}

const ignoreCalls: CallRecorder = { accepts: () => true, record: () => undefined };

/**
 * Mounts the routes on a Fastify instance of their own, so that parsing no body is
 * nobody else's concern. An RPC passes Fastify's router and its onRequest hooks;
 * the response is written past Fastify.
 */
export function mountRpcs(app: FastifyInstance, options: MountOptions): MountedRpcs {
  let running = 0;
  /** Those that count against the room: all that run but those that were refused. */
  const admitted = new Set<RunningRpc>();
  const anonymous = new Set<RunningRpc>();
  let undecided = 0;
  let onIdle: (() => void)[] = [];

  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    readMaxBytes: options.maxMessageBytes,
    writeMaxBytes: options.maxMessageBytes,
    shutdownSignal: options.shutdownSignal,
    interceptors: options.interceptors,
    requestGate(context) {
      const rpc = RunningRpc.of(context);
      rpc?.begin(context);
      try {
        if (rpc?.refusal !== undefined) throw rpc.refusal;
        const passed = options.gate(context);
        if (rpc === undefined) return passed;
        return passed instanceof Promise ? admitLater(rpc, passed) : admit(rpc);
      } catch (error) {
        if (rpc !== undefined) admitted.delete(rpc);
        throw error;
      }
    },
  });
  options.routes(router);
  checkMountedOnce(router.handlers);
  const uncapped = new Set(options.uncapped.map((service) => service.typeName));

  /** Keeps half of the room for callers that are known: the others cannot hold all of it. */
  function admit(rpc: RunningRpc): void {
    if (rpc.call === undefined || rpc.call.verdict?.principal !== undefined) return;
    if (uncapped.has(rpc.call.method.service)) return;
    if (anonymous.size >= Math.ceil(options.maxConcurrentRpcs / 2)) throw tooMany();
    anonymous.add(rpc);
  }

  /** Bad credentials that wait for a slow database must not hold the room of good ones that are in memory. */
  async function admitLater(rpc: RunningRpc, passed: Promise<void>): Promise<void> {
    undecided++;
    try {
      const counts = !uncapped.has(rpc.call?.method.service ?? "");
      if (counts && undecided > Math.ceil(options.maxConcurrentRpcs / 4)) {
        passed.catch(() => {});
        throw tooMany();
      }
      await passed;
      admit(rpc);
    } catch (error) {
      admitted.delete(rpc);
      throw error;
    } finally {
      undecided--;
    }
  }

  async function serve(handler: UniversalHandler, req: FastifyRequest, reply: FastifyReply): Promise<void> {
    const rpc = new RunningRpc(options.recorder, peerAddress(req));
    const closed = new Promise<void>((resolve) => {
      reply.raw.once("close", () => {
        rpc.clientGone = !reply.raw.writableFinished;
        resolve();
      });
    });
    if (admitted.size >= options.maxConcurrentRpcs && !uncapped.has(handler.service.typeName))
      rpc.refusal = tooMany();
    else admitted.add(rpc);
    if (req.method === "GET") rpc.refusal ??= refuseDamagedQuery(req.url);
    const unary = handler.method.methodKind === "unary";
    const deadline = createDeadline(unary ? options.maxUnaryMs : 0);
    let givingUp: NodeJS.Timeout | undefined;
    try {
      const request = universalRequest(req, reply, rpc.values);
      if (request === undefined) {
        reply.raw.writeHead(400).end("the Host header is missing, or no host\n");
        return;
      }
      dropFarDeadline(request.header);
      const body = request.body as AsyncIterable<Uint8Array>;
      const response = await handler({
        ...request,
        body: rpc.incoming(body),
        signal: deadline.link(request.signal),
      });
      const refuse = () => refusalResponse(handler, request, cannotCount());
      const answer = unary ? await answerUnary(rpc, response, refuse) : answerStream(rpc, response, refuse);

      for (const [name, value] of Object.entries(reply.getHeaders())) {
        if (value !== undefined) reply.raw.setHeader(name, value);
      }
      // RFC 9110, section 15.5.6.
      if (response.status === 405) reply.raw.setHeader("allow", handler.allowedMethods.join(", "));
      if (rpc.call !== undefined) reply.raw.setHeader("x-request-id", rpc.call.requestId);
      // Answers depend on who asks, which a cache that sees a GET would not know.
      reply.raw.setHeader("cache-control", "no-store");
      if (!req.raw.readableEnded) refuseBody(req.raw, reply.raw);
      // The answer waits in memory, and the RPC among those that run, for a client that may never take it.
      if (unary && options.maxUnaryMs > 0)
        givingUp = setTimeout(() => reply.raw.destroy(), options.maxUnaryMs);
      // The promise alone would not do: over HTTP/1.1 it never settles.
      await Promise.race([universalResponseToNodeResponse(answer, reply.raw), closed]);
      await closed;
    } finally {
      deadline.clear();
      clearTimeout(givingUp);
      admitted.delete(rpc);
      anonymous.delete(rpc);
      // However the response went, the RPC has ended.
      rpc.record()?.catch(() => {});
    }
  }

  /** A refusal in the words of whatever protocol the request speaks. Its body is not read again. */
  function refusalResponse(
    handler: UniversalHandler,
    request: UniversalServerRequest,
    error: ConnectError,
  ): Promise<UniversalServerResponse> {
    const rpc = new RunningRpc(ignoreCalls, "");
    rpc.refusal = error;
    return handler({
      ...request,
      body: nothing(),
      signal: new AbortController().signal,
      contextValues: rpc.values,
    });
  }

  app.addHook("onRequest", answerUnknownRpc);
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_req, _payload, done) => done(null));
    for (const handler of router.handlers) {
      scope.all(handler.requestPath, (req, reply) => {
        reply.hijack();
        running++;
        serve(handler, req, reply)
          .catch((error: unknown) => {
            // Only what happens while writing ends here: the client is gone, or nearly always so.
            req.log.debug({ err: error, rpc: handler.requestPath }, "a response could not be written");
            reply.raw.destroy();
          })
          .finally(() => {
            if (--running > 0) return;
            for (const resolve of onIdle) resolve();
            onIdle = [];
          });
      });
    }
  });

  return {
    handlers: router.handlers,
    get running() {
      return running;
    },
    idle: () => (running === 0 ? Promise.resolve() : new Promise((resolve) => onIdle.push(resolve))),
  };
}

/** The request as Connect takes it; undefined where its Host makes no URL. */
function universalRequest(
  req: FastifyRequest,
  reply: FastifyReply,
  values: ContextValues,
): UniversalServerRequest | undefined {
  try {
    const request = universalRequestFromNodeRequest(req.raw, reply.raw, undefined, values);
    // As over HTTP/1.1 (RFC 9113, section 8.3.1): what is asked of a session's cookie needs it.
    if (!request.header.has("host")) request.header.set("host", String(req.headers[":authority"] ?? ""));
    const sent = new Set(
      req.raw.rawHeaders.filter((_, i, all) => i % 2 === 1 && all[i - 1]?.toLowerCase() === "authorization"),
    );
    // Node would keep the first of two and say nothing of the other: a proxy may have gone by that one.
    if (sent.size > 1) request.header.set("authorization", `Bearer ${[...sent].join(", ")}`);
    return request;
  } catch {
    return undefined;
  }
}

function tooMany(): ConnectError {
  return new ConnectError("too many calls at once: try again", Code.ResourceExhausted);
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}

/** Fastify would say so too, but only when it listens, and of a route. */
function checkMountedOnce(handlers: readonly UniversalHandler[]): void {
  const paths = new Set<string>();
  for (const { requestPath } of handlers) {
    if (paths.has(requestPath)) throw new Error(`the method ${requestPath.slice(1)} is mounted twice`);
    paths.add(requestPath);
  }
}
