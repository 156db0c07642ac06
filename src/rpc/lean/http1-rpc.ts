/** The lean path over HTTP/1.1: a connection of the server's own, without Node's streams over it. */
import { STATUS_CODES, validateHeaderName, validateHeaderValue } from "node:http";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Call } from "../../auth/call.ts";
import { currentDate } from "../../http-date.ts";
import type { Http1Connection, Http1Handler, Http1Request } from "../../http1/connection.ts";
import { headersOf, type LeanAnswer } from "./lean-answer.ts";
import { LeanRpc, type LeanShared, type PassOn } from "./lean-rpc.ts";
import type { LeanRequestHead } from "./touched-rpc.ts";

export class Http1Rpc extends LeanRpc implements Http1Handler {
  readonly #request: Http1Request;
  readonly #connection: Http1Connection;
  readonly #passOn: PassOn;

  constructor(
    shared: LeanShared,
    head: LeanRequestHead,
    request: Http1Request,
    connection: Http1Connection,
    passOn: PassOn,
  ) {
    super(shared, head);
    this.#request = request;
    this.#connection = connection;
    this.#passOn = passOn;
  }

  get url(): string {
    const scheme = (this.#connection.socket as TLSSocket).encrypted ? "https" : "http";
    return new URL(this.#request.head.path, `${scheme}://${this.head.headers.host}`).toString();
  }

  protected readBody(): void {
    const { body, isWhole } = this.#request;
    if (body.length > 0) this.take(body);
    // Else the connection is about to close.
    if (isWhole) this.bodyEnded();
  }

  onClosed(): void {
    this.closed();
  }

  protected override canHandOver(): boolean {
    return this.#connection.canHandOver;
  }

  protected handOver(call: Call): void {
    // Node's parser begins with the request anew: nothing of it is read yet.
    this.#passOn({ call, chunks: [], isWhole: false });
  }

  protected write(answer: LeanAnswer, call: Call): void {
    const connection = this.#connection;
    const { header, body = "" } = answer;
    const isMeasured = header === undefined ? !this.codec.isFramed : header.has("content-length");
    const fields =
      header === undefined ? this.#plainFields(answer, call.requestId) : this.#fields(answer, call.requestId);
    const length = isMeasured ? "" : "Transfer-Encoding: chunked\r\n";
    const head = `HTTP/1.1 ${statusLine(answer.status)}\r\n${fields}${connection.connectionFields()}${length}\r\n`;
    if (!isMeasured) connection.answer(chunked(head, bytesOf(body)));
    else if (typeof body !== "string") connection.answer(joined(head, body));
    // One text, where the head is ASCII; so is the body, where it has a byte for each character.
    else if (header === undefined)
      connection.answer(head + body, body.length === answer.bytes ? "latin1" : "utf8");
    else connection.answer(joined(head, bytesOf(body)));
  }

  /** As `headersOf` has them, of what needs no looking over. */
  #plainFields(answer: LeanAnswer, requestId: string): string {
    const length = this.codec.isFramed ? "" : `content-length: ${answer.bytes}\r\n`;
    const encoding = answer.encoding === undefined ? "" : `grpc-encoding: ${answer.encoding}\r\n`;
    return `x-request-id: ${requestId}\r\ncache-control: no-store\r\ncontent-type: ${answer.contentType}\r\n${encoding}${length}Date: ${currentDate()}\r\n`;
  }

  /** Throws where there is one that HTTP does not take, as node:http does. */
  #fields(answer: LeanAnswer, requestId: string): string {
    const headers = headersOf(answer, this.codec, requestId, undefined);
    if (headers.trailer !== undefined && headers["content-length"] !== undefined)
      throw new TypeError("only an answer in chunks has trailers");
    let fields = "";
    for (const [name, value] of Object.entries(headers)) {
      validateHeaderName(name);
      for (const one of [value].flat()) {
        validateHeaderValue(name, one as string);
        fields += `${name}: ${one}\r\n`;
      }
    }
    return headers.date === undefined ? `${fields}Date: ${currentDate()}\r\n` : fields;
  }

  protected destroy(): void {
    this.#connection.socket.destroy();
  }

  /** HTTP/1.1 has no word for it; Connect's handlers hear of a GET's end as an error of the request's. */
  protected resetReason(): ConnectError | undefined {
    return this.requestMethod === "GET" ? new ConnectError("aborted", Code.Aborted) : undefined;
  }
}

function statusLine(status: number): string {
  return status === 200 ? "200 OK" : `${status} ${STATUS_CODES[status] ?? "unknown"}`;
}

function bytesOf(body: Uint8Array | string): Uint8Array {
  return typeof body === "string" ? Buffer.from(body) : body;
}

function joined(head: string, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(head.length + body.byteLength);
  bytes.write(head, "latin1");
  bytes.set(body, head.length);
  return bytes;
}

/** In one chunk (RFC 9112, section 7.1). */
function chunked(head: string, body: Uint8Array): Buffer {
  const begin = `${head}${body.byteLength.toString(16)}\r\n`;
  const bytes = Buffer.allocUnsafe(begin.length + body.byteLength + lastChunk.length);
  bytes.write(begin, "latin1");
  bytes.set(body, begin.length);
  bytes.write(lastChunk, begin.length + body.byteLength, "latin1");
  return bytes;
}

const lastChunk = "\r\n0\r\n\r\n";
