/** The lean path over HTTP/2: a stream of the connection's own, without Node's streams over it. */
import { constants } from "node:http2";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Call } from "../../auth/call.ts";
import { currentDate } from "../../http-date.ts";
import { fieldsOf } from "../../http2/fields.ts";
import type { NodeStream } from "../../http2/node-stream.ts";
import type { Http2Stream, StreamHandler } from "../../http2/stream.ts";
import { errorCode } from "../../http2/wire.ts";
import { addAll, headersOf, type LeanAnswer } from "./lean-answer.ts";
import { LeanRpc, type LeanShared, type PassOn } from "./lean-rpc.ts";
import type { LeanRequestHead } from "./touched-rpc.ts";

export class Http2Rpc extends LeanRpc implements StreamHandler {
  readonly #stream: Http2Stream;
  /** What a hook was given of the stream. */
  readonly #hooked: NodeStream | undefined;
  readonly #passOn: PassOn;

  constructor(
    shared: LeanShared,
    head: LeanRequestHead,
    stream: Http2Stream,
    hooked: NodeStream | undefined,
    passOn: PassOn,
  ) {
    super(shared, head);
    this.#stream = stream;
    this.#hooked = hooked;
    this.#passOn = passOn;
    if (hooked === undefined) stream.handler = this;
    else hooked.leaveTo(this);
  }

  get url(): string {
    const { headers } = this.head;
    const scheme = (this.#stream.connection.socket as TLSSocket).encrypted ? "https" : "http";
    const authority = headers[":authority"] ?? headers.host ?? "";
    return new URL(String(headers[":path"]), `${scheme}://${authority}`).toString();
  }

  protected readBody(): void {
    this.#stream.read();
  }

  onData(chunk: Buffer): void {
    this.take(chunk);
  }

  onEnd(): void {
    this.bodyEnded();
  }

  onClosed(): void {
    this.closed();
    this.#hooked?.onClosed();
  }

  protected handOver(call: Call): void {
    // What comes until somebody reads again waits.
    this.#stream.pause();
    this.#hooked?.takeBack();
    const { chunks, isWhole } = this.body;
    this.#passOn({ call, chunks, isWhole });
  }

  protected write(answer: LeanAnswer, call: Call): void {
    const stream = this.#stream;
    if (stream.isClosed) return;
    this.#hooked?.answered();
    const { trailer } = answer;
    const isGrpc = this.codec.protocol === "grpc";
    const sent = trailer === undefined ? grpcOk : fieldsOf(addAll({}, trailer), false);
    const trailers = isGrpc ? sent : none;
    const body = typeof answer.body === "string" ? Buffer.from(answer.body) : answer.body;
    stream.dropsRest = true;
    stream.answer(this.#fields(answer, call.requestId), body, trailers);
  }

  #fields(answer: LeanAnswer, requestId: string): readonly string[] {
    if (answer.header !== undefined || this.hookHeaders !== undefined) {
      const headers = headersOf(answer, this.codec, requestId, this.hookHeaders);
      return fieldsOf({ ":status": answer.status, ...headers }, true);
    }
    // As `headersOf` has it, of what needs no looking over.
    const fields = [":status", String(answer.status), "x-request-id", requestId, "cache-control", "no-store"];
    fields.push("content-type", answer.contentType);
    if (answer.encoding !== undefined) fields.push("grpc-encoding", answer.encoding);
    if (!this.codec.isFramed) fields.push("content-length", String(answer.bytes));
    fields.push("date", currentDate());
    return fields;
  }

  protected destroy(): void {
    this.#stream.reset(errorCode.internalError);
  }

  protected resetReason(): ConnectError | undefined {
    const code = this.#stream.rstCode;
    const told = resetCodes.get(code);
    if (told === undefined) return undefined;
    const [name, connectCode] = told;
    return new ConnectError(
      `http/2 stream closed with error code ${name} (0x${code.toString(16)})`,
      connectCode,
    );
  }
}

const grpcOk = ["grpc-status", "0"];
const none: readonly string[] = [];

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
