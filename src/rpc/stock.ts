/** RPCs by Connect's own handlers: every kind of them, at Connect's own price. */
import type { ConnectError, ContextValues } from "@connectrpc/connect";
import type {
  UniversalHandler,
  UniversalServerRequest,
  UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type Call, type CallRecorder, cannotCount } from "../auth/call.ts";
import { type Admission, Place } from "./admission.ts";
import { answerStream, answerUnary } from "./answer.ts";
import { createDeadline, dropFarDeadline } from "./deadline.ts";
import { refuseDamagedQuery } from "./get-message.ts";
import {
  bytesContentType,
  decodeTextChunks,
  encodeTextChunks,
  encodeTextWhole,
  textContentType,
} from "./grpc-web-text.ts";
import type { PeerAddress } from "./peer-address.ts";
import { RunningRpc } from "./running-rpc.ts";

export interface StockOptions {
  recorder: CallRecorder;
  admission: Admission;
  peerAddress: PeerAddress;
  /** Bytes of one message. */
  maxMessageBytes: number;
  /** Milliseconds that a unary RPC may take, and its client to take the answer; 0: no limit of the server's own. */
  maxUnaryMs: number;
  /** Whether a service is answered however many RPCs run. */
  isUncapped: (service: string) => boolean;
}

/** An RPC that was begun elsewhere and is handed over before its handler was called. */
export interface HandedOver {
  readonly call: Call;
  /** What was read of the body. */
  readonly chunks: readonly Uint8Array[];
  /** The body is read to its end. */
  readonly isWhole: boolean;
}

export type ServeStock = (
  handler: UniversalHandler,
  req: FastifyRequest,
  reply: FastifyReply,
  begun?: HandedOver,
) => Promise<void>;

const ignoreCalls: CallRecorder = { accepts: () => true, record: () => undefined };

export function createStock(options: StockOptions): ServeStock {
  const { admission } = options;

  return async (handler, req, reply, begun) => {
    const place = new Place(options.isUncapped(handler.service.typeName));
    const address = options.peerAddress(req.raw.socket.remoteAddress, req.raw.headers);
    const rpc = new RunningRpc(options.recorder, address, place);
    rpc.call = begun?.call;
    const closed = new Promise<void>((resolve) => {
      reply.raw.once("close", () => {
        rpc.clientGone = !reply.raw.writableFinished;
        resolve();
      });
    });
    rpc.refusal = admission.enter(place);
    if (req.method === "GET") rpc.refusal ??= refuseDamagedQuery(req.url);
    const unary = handler.method.methodKind === "unary";
    const deadline = createDeadline(unary ? options.maxUnaryMs : 0);
    let givingUp: NodeJS.Timeout | undefined;
    try {
      const request = universalRequest(req, reply, rpc.values, begun);
      if (request === undefined) {
        reply.raw.writeHead(400).end("the Host header is missing, or no host\n");
        return;
      }
      dropFarDeadline(request.header);
      const isText = asBytes(request, rpc);
      const body = request.body as AsyncIterable<Uint8Array>;
      const response = await handler({
        ...request,
        body: rpc.incoming(isText ? decodeTextChunks(body) : body, options.maxMessageBytes),
        signal: deadline.link(request.signal),
      });
      const refuse = () => refusalResponse(handler, request, cannotCount());
      let answer = unary ? await answerUnary(rpc, response, refuse) : answerStream(rpc, response, refuse);
      if (isText) answer = asText(answer, unary);

      for (const [name, value] of Object.entries(reply.getHeaders())) {
        if (value !== undefined) reply.raw.setHeader(name, value);
      }
      // RFC 9110, section 15.5.6.
      if (response.status === 405) reply.raw.setHeader("allow", handler.allowedMethods.join(", "));
      if (rpc.call !== undefined) reply.raw.setHeader("x-request-id", rpc.call.requestId);
      // Answers depend on who asks, which a cache that sees a GET would not know.
      reply.raw.setHeader("cache-control", "no-store");
      // The answer waits in memory, and the RPC among those that run, for a client that may never take it.
      if (unary && options.maxUnaryMs > 0)
        givingUp = setTimeout(() => reply.raw.destroy(), options.maxUnaryMs);
      // The promise alone would not do: over HTTP/1.1 it never settles.
      await Promise.race([universalResponseToNodeResponse(answer, reply.raw), closed]);
      await closed;
    } finally {
      deadline.clear();
      clearTimeout(givingUp);
      admission.leave(place);
      // However the response went, the RPC has ended.
      rpc.record()?.catch(() => {});
    }
  };
}

/** A refusal in the words of whatever protocol the request speaks. Its body is not read again. */
function refusalResponse(
  handler: UniversalHandler,
  request: UniversalServerRequest,
  error: ConnectError,
): Promise<UniversalServerResponse> {
  const rpc = new RunningRpc(ignoreCalls, "", new Place(true));
  rpc.refusal = error;
  return handler({
    ...request,
    body: nothing(),
    signal: new AbortController().signal,
    contextValues: rpc.values,
  });
}

/** The request as Connect takes it; undefined where its Host makes no URL. */
function universalRequest(
  req: FastifyRequest,
  reply: FastifyReply,
  values: ContextValues,
  begun: HandedOver | undefined,
): UniversalServerRequest | undefined {
  try {
    const request = universalRequestFromNodeRequest(req.raw, reply.raw, undefined, values);
    const sent = new Set(
      req.raw.rawHeaders.filter((_, i, all) => i % 2 === 1 && all[i - 1]?.toLowerCase() === "authorization"),
    );
    // Node would keep the first of two and say nothing of the other: a proxy may have gone by that one.
    if (sent.size > 1) request.header.set("authorization", `Bearer ${[...sent].join(", ")}`);
    if (begun === undefined) return request;
    return { ...request, body: from(begun, request.body as AsyncIterable<Uint8Array>) };
  } catch {
    return undefined;
  }
}

/** Turns a request in text into one in bytes, which is what Connect reads. */
function asBytes(request: UniversalServerRequest, rpc: RunningRpc): boolean {
  const contentType = request.header.get("content-type") ?? "";
  const bytesType = bytesContentType(contentType);
  if (bytesType === undefined) return false;
  request.header.set("content-type", bytesType);
  rpc.contentType = contentType;
  return true;
}

function asText(answer: UniversalServerResponse, unary: boolean): UniversalServerResponse {
  const header = new Headers(answer.header);
  header.set("content-type", textContentType(header.get("content-type") ?? ""));
  const body = (answer.body ?? nothing()) as AsyncIterable<Uint8Array>;
  return { ...answer, header, body: unary ? encodeTextWhole(body) : encodeTextChunks(body) };
}

async function* from(
  { chunks, isWhole }: HandedOver,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks;
  if (!isWhole) yield* rest;
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}
