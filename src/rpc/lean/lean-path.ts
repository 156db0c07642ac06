/**
 * The lean path: unary RPCs of the usual form, from socket to handler and back without
 * what most of them never touch. The context's headers, signals and URL are made when a
 * handler or interceptor asks for them; the message is read and written by the same
 * serialization that Connect uses, errors by its own functions, so that what is on the
 * wire is the same. Everything else is Connect's own handlers' to answer: streams,
 * compressed messages, whatever is odd, even where that is found out half-way.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2Session, ServerHttp2Stream } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UnaryEntrance } from "../../listener.ts";
import type { HandedOver } from "../stock.ts";
import { Http1Rpc } from "./http1-rpc.ts";
import { Http2Rpc } from "./http2-rpc.ts";
import type { HookHeaders } from "./lean-answer.ts";
import type { LeanOptions } from "./lean-options.ts";
import type { LeanRpc, LeanShared } from "./lean-rpc.ts";
import { createHeadReader } from "./request-head.ts";
import { createRunningList } from "./running-list.ts";
import { createLeanMethod } from "./unary-method.ts";

export interface LeanPath extends UnaryEntrance {
  /**
   * Takes a request that has passed Fastify's hooks, which have set these headers. False:
   * it is none of its own. `passOn` as in {@link UnaryEntrance}.
   */
  takeHooked(
    req: IncomingMessage | Http2ServerRequest,
    res: ServerResponse,
    headers: HookHeaders,
    passOn: () => void,
  ): boolean;
  /** What was begun here and passed on; undefined: nothing was. */
  passedOn(req: IncomingMessage | Http2ServerRequest): HandedOver | undefined;
}

export function createLeanPath(options: LeanOptions): LeanPath {
  const methods = options.methods.map((method) =>
    createLeanMethod(method, { ...options, isUncapped: options.isUncapped(method.method.parent.typeName) }),
  );
  const readHead = createHeadReader({ ...options, methods });
  const shared: LeanShared = {
    ...options,
    unanswered: createRunningList<LeanRpc>(options.maxUnaryMs, (rpc) =>
      rpc.fail(tooLong(options.maxUnaryMs)),
    ),
    untaken: createRunningList<LeanRpc>(options.maxUnaryMs, (rpc) => rpc.giveUp()),
  };
  options.shutdownSignal.addEventListener("abort", () => {
    const error = ConnectError.from(options.shutdownSignal.reason);
    shared.unanswered.forEach((rpc) => {
      rpc.fail(error);
    });
  });
  /** By the stream or request. */
  const begun = new WeakMap<object, HandedOver>();
  const addresses = new WeakMap<Http2Session, string | undefined>();

  /** The session's socket is a proxy, and dear to ask. */
  function remoteAddress(session: Http2Session | undefined): string | undefined {
    if (session === undefined) return undefined;
    let address = addresses.get(session);
    if (address === undefined) {
      address = session.socket.remoteAddress;
      addresses.set(session, address);
    }
    return address;
  }

  function takeStream(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: readonly string[],
    passOn: () => void,
    hookHeaders?: HookHeaders,
  ): boolean {
    const head = readHead({
      verb: headers[":method"] as string | undefined,
      path: headers[":path"] as string | undefined,
      authority: (headers[":authority"] as string | undefined) ?? headers.host,
      headers,
      rawHeaders,
      httpVersion: 2,
    });
    if (head === undefined) return false;
    const rpc = new Http2Rpc(shared, head, stream, (handedOver) => {
      begun.set(stream, handedOver);
      passOn();
    });
    rpc.hookHeaders = hookHeaders;
    rpc.start(options.peerAddress(remoteAddress(stream.session), headers));
    return true;
  }

  function takeRequest(
    req: IncomingMessage,
    res: ServerResponse,
    passOn: () => void,
    hookHeaders?: HookHeaders,
  ): boolean {
    const { headers } = req;
    const head = readHead({
      verb: req.method,
      path: req.url,
      authority: headers.host,
      headers,
      rawHeaders: req.rawHeaders,
      httpVersion: 1,
    });
    if (head === undefined) return false;
    const rpc = new Http1Rpc(shared, head, req, res, (handedOver) => {
      begun.set(req, handedOver);
      passOn();
    });
    rpc.hookHeaders = hookHeaders;
    rpc.start(options.peerAddress(req.socket.remoteAddress, headers));
    return true;
  }

  return {
    takeStream,
    takeRequest,
    takeHooked: (req, res, headers, passOn) =>
      "stream" in req
        ? takeStream(req.stream, req.headers, req.rawHeaders, passOn, headers)
        : takeRequest(req, res, passOn, headers),
    passedOn: (req) => begun.get("stream" in req ? req.stream : req),
  };
}

function tooLong(timeoutMs: number): ConnectError {
  return new ConnectError(
    `the call took longer than this server allows: ${timeoutMs} ms`,
    Code.DeadlineExceeded,
  );
}
