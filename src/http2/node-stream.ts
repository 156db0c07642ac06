/**
 * A stream as Node's compatibility API wants it: what stands in for `ServerHttp2Stream`
 * under `Http2ServerRequest` and `Http2ServerResponse`, and so under Fastify.
 */
import { constants, type OutgoingHttpHeaders } from "node:http2";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { compact } from "../compact.ts";
import { fieldsOf } from "./fields.ts";
import type { HeaderBlock } from "./hpack/header-block.ts";
import type { Http2Stream, StreamHandler } from "./stream.ts";
import { errorCode } from "./wire.ts";

interface RespondOptions {
  readonly endStream?: boolean;
  readonly waitForTrailers?: boolean;
  readonly sendDate?: boolean;
}

export class NodeStream extends Duplex implements StreamHandler {
  /** Undefined: the compatibility API then takes this for the socket too, as far as it is asked for. */
  readonly session = undefined;
  readonly stream: Http2Stream;
  headersSent = false;
  aborted = false;
  override closed = false;
  rstCode: number = errorCode.noError;
  sentHeaders: OutgoingHttpHeaders | undefined;
  /** Somebody else answers on its stream. */
  #isTaken = false;
  #isAsked = false;
  #waitsForTrailers = false;
  #trailers: readonly string[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: Http2Stream) {
    super({ allowHalfOpen: true, autoDestroy: false });
    this.stream = stream;
    stream.handler = this;
    // Its reader may have gone when it is told of an error.
    this.on("error", ignore);
    if (this.headRequest) this.end();
  }

  get id(): number {
    return this.stream.id;
  }

  get headRequest(): boolean {
    return this.stream.block.headers[":method"] === "HEAD";
  }

  /** The part of `ServerHttp2Stream`'s that says which side has ended. */
  get state(): { localClose?: 0 | 1; remoteClose?: 0 | 1 } {
    if (this.destroyed) return {};
    return { localClose: this.stream.localEnded ? 1 : 0, remoteClose: this.stream.remoteEnded ? 1 : 0 };
  }

  // Of the socket, for `req.socket`.

  get #socket(): Socket {
    return this.stream.connection.socket;
  }

  get remoteAddress(): string | undefined {
    return this.stream.connection.remoteAddress;
  }

  get remotePort(): number | undefined {
    return this.#socket.remotePort;
  }

  get remoteFamily(): string | undefined {
    return this.#socket.remoteFamily;
  }

  get localAddress(): string | undefined {
    return this.#socket.localAddress;
  }

  get localPort(): number | undefined {
    return this.#socket.localPort;
  }

  get encrypted(): boolean {
    return (this.#socket as TLSSocket).encrypted === true;
  }

  get authorized(): boolean | undefined {
    return (this.#socket as TLSSocket).authorized;
  }

  // What comes.

  onData(chunk: Buffer): void {
    this.#timer?.refresh();
    if (!this.push(compact(chunk))) this.stream.pause();
  }

  onEnd(trailers: HeaderBlock | undefined): void {
    if (trailers !== undefined) this.emit("trailers", trailers.headers, 0, trailers.rawHeaders);
    this.push(null);
  }

  onClosed(): void {
    const { rstCode } = this.stream;
    if (this.closed) return;
    this.#markClosed(rstCode);
    this.push(null);
    if (rstCode === errorCode.noError) {
      // It is answered: what was not read of the request is nobody's.
      if (this.readableEnded) this.destroy();
      else
        this.once("end", () => this.destroy())
          .removeAllListeners("data")
          .resume();
    } else this.destroy();
  }

  override _read(): void {
    // Node asks once: what it asks for meanwhile is read when the stream is taken back.
    if (this.#isTaken) this.#isAsked = true;
    else this.stream.read();
  }

  /** Leaves the stream to another handler, which tells when it has answered and when the stream is closed. */
  leaveTo(handler: StreamHandler): void {
    this.#isTaken = true;
    this.stream.handler = handler;
  }

  /** Takes the stream back, as it is now. */
  takeBack(): void {
    this.#isTaken = false;
    this.stream.handler = this;
    if (this.#isAsked) this.stream.read();
  }

  /** Whoever has taken the stream has answered. */
  answered(): void {
    this.headersSent = true;
    this.end();
  }

  // What goes.

  respond(headers: OutgoingHttpHeaders = {}, options: RespondOptions = {}): void {
    if (this.destroyed || this.closed) throw new Error("the stream is closed: it cannot be answered");
    if (this.headersSent) throw new Error("the stream was answered before");
    const status = Number(headers[":status"] ?? 200);
    const fields = fieldsOf({ ...headers, ":status": status }, options.sendDate !== false);
    this.#waitsForTrailers = options.waitForTrailers === true;
    const isBodiless = this.headRequest || status === 204 || status === 205 || status === 304;
    if (isBodiless || options.endStream) {
      this.#waitsForTrailers = false;
      this.stream.sendHeaders(fields, true);
      this.headersSent = true;
      this.sentHeaders = headers;
      if (!this.writableEnded) this.end();
      return;
    }
    this.stream.sendHeaders(fields, false);
    this.headersSent = true;
    this.sentHeaders = headers;
  }

  additionalHeaders(headers: OutgoingHttpHeaders): void {
    if (this.destroyed || this.closed || this.headersSent) return;
    this.stream.sendHeaders(fieldsOf(headers, false), false);
  }

  /** To be called while "wantTrailers" is emitted. */
  sendTrailers(headers: OutgoingHttpHeaders): void {
    this.#trailers = fieldsOf(headers, false);
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    if (!this.headersSent) this.respond();
    this.#timer?.refresh();
    if (this.stream.localEnded) callback();
    else this.stream.send(chunk, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.#isTaken || this.stream.isClosed || this.stream.localEnded || !this.headersSent) {
      callback();
      return;
    }
    const trailers = this.#waitsForTrailers ? () => this.#askForTrailers() : undefined;
    this.stream.finish(trailers, callback);
  }

  #askForTrailers(): readonly string[] {
    this.emit("wantTrailers");
    return this.#trailers;
  }

  /** Resets the stream. */
  close(code: number = constants.NGHTTP2_NO_ERROR, callback?: () => void): void {
    if (this.closed) return;
    if (callback !== undefined) this.once("close", callback);
    this.stream.reset(code);
  }

  setTimeout(ms: number, callback?: () => void): this {
    clearTimeout(this.#timer);
    this.#timer = ms > 0 ? setTimeout(() => this.emit("timeout"), ms).unref() : undefined;
    if (callback !== undefined) this.on("timeout", callback);
    return this;
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#timer);
    if (!this.closed) {
      const code = error === null ? errorCode.noError : errorCode.internalError;
      this.#markClosed(code);
      this.stream.reset(code);
    }
    this.push(null);
    callback(error);
  }

  #markClosed(code: number): void {
    this.closed = true;
    this.rstCode = code;
    clearTimeout(this.#timer);
    if (this.writableEnded) return;
    this.aborted = true;
    this.emit("aborted");
    this.end();
  }
}

function ignore(): void {}
