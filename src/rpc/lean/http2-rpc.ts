/** The lean path over HTTP/2: a stream of Node's core API, without the request and response objects over it. */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Call } from "../../auth/call.ts";
import { dropUnread } from "../../request-body.ts";
import { addAll, headersOf, type LeanAnswer } from "./lean-answer.ts";
import { LeanRpc, type LeanShared, type PassOn } from "./lean-rpc.ts";
import type { LeanRequestHead } from "./touched-rpc.ts";

const rpcKey = Symbol("lean rpc");
interface LeanStream extends ServerHttp2Stream {
  [rpcKey]?: Http2Rpc | undefined;
}

export class Http2Rpc extends LeanRpc {
  readonly #stream: LeanStream;
  readonly #passOn: PassOn;
  #trailer: OutgoingHttpHeaders = grpcOk;

  constructor(shared: LeanShared, head: LeanRequestHead, stream: ServerHttp2Stream, passOn: PassOn) {
    super(shared, head);
    this.#stream = stream;
    this.#passOn = passOn;
    this.#stream[rpcKey] = this;
    stream.on("close", onClose);
  }

  get url(): string {
    const { headers } = this.head;
    const scheme = (this.#stream.session?.socket as TLSSocket | undefined)?.encrypted ? "https" : "http";
    const authority = headers[":authority"] ?? headers.host ?? "";
    return new URL(String(headers[":path"]), `${scheme}://${authority}`).toString();
  }

  protected readBody(): void {
    // An empty body ends by itself, and may have done so while the verdict was waited for.
    if (this.#stream.readableEnded) {
      this.streamEnded();
      return;
    }
    this.#stream.on("data", onData);
    this.#stream.on("end", onEnd);
  }

  streamEnded(): void {
    // Node ends the body of a connection that breaks too: what has come is not all of it.
    if (!this.#stream.destroyed && !this.#stream.aborted) this.bodyEnded();
  }

  protected handOver(call: Call): void {
    const stream = this.#stream;
    stream[rpcKey] = undefined;
    stream.off("close", onClose).off("data", onData).off("end", onEnd);
    // What comes until somebody reads again would be lost.
    stream.pause();
    const { chunks, isWhole } = this.body;
    this.#passOn({ call, chunks, isWhole });
  }

  protected write(answer: LeanAnswer, call: Call): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    if (!this.body.isWhole && !stream.readableEnded) stream.once("finish", dropUnread);
    const headers: OutgoingHttpHeaders = {
      ":status": answer.status,
      ...headersOf(answer, this.codec, call.requestId, this.hookHeaders),
    };
    if (this.codec.protocol === "grpc") {
      if (answer.trailer !== undefined) this.#trailer = addAll({}, answer.trailer);
      // Behind a hook there is a response of the compatibility API too, which would send its own, empty.
      if (this.hookHeaders !== undefined) stream.removeAllListeners("wantTrailers");
      stream.on("wantTrailers", onWantTrailers);
      stream.respond(headers, withTrailers);
    } else stream.respond(headers);
    stream.end(answer.body);
  }

  sendTrailers(): void {
    this.#stream.sendTrailers(this.#trailer);
  }

  protected destroy(): void {
    this.#stream.destroy();
  }

  streamClosed(): void {
    this.closed();
  }

  protected resetReason(): ConnectError | undefined {
    const code = this.#stream.rstCode ?? 0;
    const told = resetCodes.get(code);
    if (told === undefined) return undefined;
    const [name, connectCode] = told;
    return new ConnectError(
      `http/2 stream closed with error code ${name} (0x${code.toString(16)})`,
      connectCode,
    );
  }
}

const grpcOk: OutgoingHttpHeaders = { "grpc-status": "0" };
const withTrailers = { waitForTrailers: true };

// One function each for all streams, rather than one for each stream.
function onData(this: LeanStream, chunk: Buffer): void {
  this[rpcKey]?.take(chunk);
}

function onEnd(this: LeanStream): void {
  this[rpcKey]?.streamEnded();
}

function onClose(this: LeanStream): void {
  const rpc = this[rpcKey];
  // Node may keep a stream for a while after its end: not what was made for it here.
  this[rpcKey] = undefined;
  rpc?.streamClosed();
}

function onWantTrailers(this: LeanStream): void {
  this[rpcKey]?.sendTrailers();
}

/** What a client's reset means (gRPC over HTTP/2, "HTTP2 Transport Mapping"). */
const resetCodes: ReadonlyMap<number, readonly [string, Code]> = new Map([
  [constants.NGHTTP2_PROTOCOL_ERROR, ["PROTOCOL_ERROR", Code.Internal]],
  [constants.NGHTTP2_INTERNAL_ERROR, ["INTERNAL_ERROR", Code.Internal]],
  [constants.NGHTTP2_FLOW_CONTROL_ERROR, ["FLOW_CONTROL_ERROR", Code.Internal]],
  [constants.NGHTTP2_SETTINGS_TIMEOUT, ["SETTINGS_TIMEOUT", Code.Internal]],
  [constants.NGHTTP2_FRAME_SIZE_ERROR, ["FRAME_SIZE_ERROR", Code.Internal]],
  [constants.NGHTTP2_REFUSED_STREAM, ["REFUSED_STREAM", Code.Unavailable]],
  [constants.NGHTTP2_CANCEL, ["CANCEL", Code.Canceled]],
  [constants.NGHTTP2_COMPRESSION_ERROR, ["COMPRESSION_ERROR", Code.Internal]],
  [constants.NGHTTP2_CONNECT_ERROR, ["CONNECT_ERROR", Code.Internal]],
  [constants.NGHTTP2_ENHANCE_YOUR_CALM, ["ENHANCE_YOUR_CALM", Code.ResourceExhausted]],
  [constants.NGHTTP2_INADEQUATE_SECURITY, ["INADEQUATE_SECURITY", Code.PermissionDenied]],
  [constants.NGHTTP2_HTTP_1_1_REQUIRED, ["HTTP_1_1_REQUIRED", Code.PermissionDenied]],
]);
