/**
 * The lean path: unary RPCs of the usual form, from socket to handler and back without
 * what most of them never touch. The context's headers, signals and URL are made when a
 * handler or interceptor asks for them; the message is read and written by the same
 * serialization that Connect uses, errors by its own functions, so that what is on the
 * wire is the same. Everything else is Connect's own handlers' to answer: streams,
 * compressed messages, whatever is odd, even where that is found out half-way.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Http1Connection, Http1Handler, Http1Request } from "../../http1/connection.ts";
import type { Http1Head } from "../../http1/request-head.ts";
import type { HeaderBlock } from "../../http2/hpack/header-block.ts";
import { NodeStream } from "../../http2/node-stream.ts";
import type { Http2Stream } from "../../http2/stream.ts";
import type { UnaryEntrance } from "../../listener.ts";
import { createRunningList } from "../../running-list.ts";
import type { HandedOver } from "../stock.ts";
import { Http1Rpc } from "./http1-rpc.ts";
import { Http2Rpc } from "./http2-rpc.ts";
import type { HookHeaders } from "./lean-answer.ts";
import type { LeanOptions } from "./lean-options.ts";
import type { LeanRpc, LeanShared } from "./lean-rpc.ts";
import { NodeRpc } from "./node-rpc.ts";
import { createHeadReader } from "./request-head.ts";
import type { LeanRequestHead } from "./touched-rpc.ts";
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

/** What is made of headers; undefined: they are none of this path's. */
interface ReadHeaders {
  readonly head: LeanRequestHead | undefined;
}

export function createLeanPath(options: LeanOptions): LeanPath {
  const methods = options.methods.map((method) =>
    createLeanMethod(method, { ...options, isUncapped: options.isUncapped(method.method.parent.typeName) }),
  );
  const readHead = createHeadReader({ ...options, methods });
  const shared: LeanShared = {
    ...options,
    unanswered: createRunningList<LeanRpc>(
      () => options.maxUnaryMs,
      (rpc) => rpc.fail(tooLong(options.maxUnaryMs)),
    ),
    untaken: createRunningList<LeanRpc>(
      () => options.maxUnaryMs,
      (rpc) => rpc.giveUp(),
    ),
  };
  options.shutdownSignal.addEventListener("abort", () => {
    const error = ConnectError.from(options.shutdownSignal.reason);
    shared.unanswered.forEach((rpc) => {
      rpc.fail(error);
    });
  });
  /** By the stream or request. */
  const begun = new WeakMap<object, HandedOver>();

  function readFields({
    headers,
    rawHeaders,
  }: Pick<HeaderBlock, "headers" | "rawHeaders">): LeanRequestHead | undefined {
    return readHead({
      verb: headers[":method"] as string | undefined,
      path: headers[":path"] as string | undefined,
      authority: (headers[":authority"] as string | undefined) ?? headers.host,
      headers,
      rawHeaders,
      httpVersion: 2,
    });
  }

  /** A client that repeats itself has the same headers for each of its requests: they are read once. */
  function readOnce<T extends { derived: unknown }>(
    headers: T,
    read: (headers: T) => LeanRequestHead | undefined,
  ): LeanRequestHead | undefined {
    const before = (headers.derived as ReadHeaders | undefined) ?? { head: read(headers) };
    // A message that stands in the path is each request's own: its handler may change it.
    if (before.head?.query === undefined) headers.derived = before;
    return before.head;
  }

  function takeHead(
    head: LeanRequestHead | undefined,
    stream: Http2Stream,
    passOn: () => void,
    hooked?: { readonly stream: NodeStream; readonly headers: HookHeaders },
  ): boolean {
    if (head === undefined) return false;
    const rpc = new Http2Rpc(shared, head, stream, hooked?.stream, (handedOver) => {
      begun.set(stream, handedOver);
      passOn();
    });
    rpc.hookHeaders = hooked?.headers;
    rpc.start(options.peerAddress(stream.connection.remoteAddress, head.headers));
    return true;
  }

  /** One that hooks have seen; node:http2's own are none for the lean path, which is off where it serves. */
  function takeHookedStream(req: Http2ServerRequest, passOn: () => void, headers: HookHeaders): boolean {
    const stream: object = req.stream;
    if (!(stream instanceof NodeStream)) return false;
    // As the hooks have left them.
    return takeHead(readFields(req), stream.stream, passOn, { stream, headers });
  }

  function takeHttp1(
    request: Http1Request,
    connection: Http1Connection,
    passOn: (onRequest: (req: IncomingMessage) => void) => void,
  ): Http1Handler | undefined {
    const head = readOnce(request.head, readLine);
    if (head === undefined) return undefined;
    const rpc = new Http1Rpc(shared, head, request, connection, (handedOver) =>
      passOn((req) => begun.set(req, handedOver)),
    );
    rpc.start(options.peerAddress(connection.remoteAddress, head.headers));
    return rpc;
  }

  function readLine({ verb, path, headers, rawHeaders }: Http1Head): LeanRequestHead | undefined {
    return readHead({ verb, path, authority: headers.host, headers, rawHeaders, httpVersion: 1 });
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
    const rpc = new NodeRpc(shared, head, req, res, (handedOver) => {
      begun.set(req, handedOver);
      passOn();
    });
    rpc.hookHeaders = hookHeaders;
    rpc.start(options.peerAddress(req.socket.remoteAddress, headers));
    return true;
  }

  return {
    takeStream: (stream, passOn) => takeHead(readOnce(stream.block, readFields), stream, passOn),
    takeHttp1,
    takeRequest,
    takeHooked: (req, res, headers, passOn) =>
      "stream" in req ? takeHookedStream(req, passOn, headers) : takeRequest(req, res, passOn, headers),
    passedOn: (req) => begun.get("stream" in req ? streamOf(req.stream) : req),
  };
}

function streamOf(stream: object): object {
  return stream instanceof NodeStream ? stream.stream : stream;
}

function tooLong(timeoutMs: number): ConnectError {
  return new ConnectError(
    `the call took longer than this server allows: ${timeoutMs} ms`,
    Code.DeadlineExceeded,
  );
}
