/** One request and its answer on a connection. */

import type { Http2Connection } from "./connection.ts";
import type { HeaderBlock } from "./hpack/header-block.ts";
import { errorCode, initialWindowBytes, maxFrameBytes } from "./wire.ts";

/** Who serves a stream. */
export interface StreamHandler {
  /** A piece of the body: a view of what was read, which keeps all of that if it is kept. */
  onData(chunk: Buffer): void;
  /** The body is whole. */
  onEnd(trailers: HeaderBlock | undefined): void;
  /** Nothing more comes or goes; `rstCode` says why. */
  onClosed(): void;
}

/** Fields, or who gives them once they are due. */
type Trailers = readonly string[] | (() => readonly string[]);

/** Waits until a piece of the answer has left. Told of an error where it never will. */
type Sent = (error?: Error) => void;

interface Piece {
  readonly bytes: Uint8Array;
  at: number;
  readonly sent: Sent | undefined;
}

interface Unread {
  chunk: Buffer;
  /** As flow control counts. */
  readonly bytes: number;
}

/** Of a body that nobody reads: more are made one, since each costs far more than it holds. */
const mostPieces = 128;
/** Half of what may be sent is used up: the peer is told before it has to wait. */
const creditBytes = initialWindowBytes >> 1;

export class Http2Stream {
  readonly id: number;
  readonly connection: Http2Connection;
  /** What it was begun with. */
  readonly block: HeaderBlock;
  handler: StreamHandler | undefined;
  /** The code it was reset with, by whomever. */
  rstCode: number = errorCode.noError;
  isClosed = false;
  /** The request is whole: no more of it comes. */
  remoteEnded = false;
  /** The answer is whole, and has left. */
  localEnded = false;
  /** What still comes of the request once it is answered is nobody's: its client is told so. */
  dropsRest = false;
  /** Bytes that may be sent (section 5.2); below zero where the peer has lowered it. */
  sendWindow: number;
  #receiveWindow = initialWindowBytes;
  #toCredit = 0;
  /** Bytes that content-length announces and that have not come; undefined: it does not say. */
  #announced: number | undefined;
  #isReading = false;
  /** What came while nobody read. */
  #unread: Unread[] | undefined;
  #kept = 0;
  #unreadEnd = false;
  #trailers: HeaderBlock | undefined;
  #toSend: Piece[] | undefined;
  /** Once all has left: the trailers, or nothing, or whoever gives the trailers. */
  #finish: { readonly trailers: Trailers | undefined; readonly sent: Sent | undefined } | undefined;

  constructor(connection: Http2Connection, id: number, block: HeaderBlock, sendWindow: number) {
    this.connection = connection;
    this.id = id;
    this.block = block;
    this.sendWindow = sendWindow;
    const length = block.headers["content-length"];
    if (length !== undefined && /^\d+$/.test(length)) this.#announced = Number(length);
  }

  // What comes in, told by the connection.

  /** `bytes`: with the padding, as flow control counts. Returns the code of the error that it is, if it is one. */
  receive(chunk: Buffer, bytes: number, isEnd: boolean): number | undefined {
    if (bytes > this.#receiveWindow) return errorCode.flowControlError;
    this.#receiveWindow -= bytes;
    if (this.#announced !== undefined) this.#announced -= chunk.byteLength;
    if (this.#announced !== undefined && (this.#announced < 0 || (isEnd && this.#announced > 0))) {
      return errorCode.protocolError;
    }
    if (isEnd) this.remoteEnded = true;
    if (this.#isReading && this.#unread === undefined) {
      if (chunk.byteLength > 0) this.handler?.onData(chunk);
      this.#credit(bytes);
      if (isEnd) this.handler?.onEnd(undefined);
      return undefined;
    }
    if (bytes > 0) {
      this.#unread ??= [];
      this.#unread.push({ chunk, bytes });
      if (this.handler !== undefined) this.keepUnread();
    }
    this.#unreadEnd = isEnd;
    return undefined;
  }

  /** What nobody has read may stay for long: it is kept without all that was read with it, and in few pieces. */
  keepUnread(): void {
    const unread = this.#unread;
    if (unread === undefined) return;
    for (; this.#kept < unread.length; this.#kept++) {
      const piece = unread[this.#kept] as Unread;
      piece.chunk = Uint8Array.prototype.slice.call(piece.chunk) as Buffer;
    }
    if (unread.length <= mostPieces) return;
    const bytes = unread.reduce((sum, piece) => sum + piece.bytes, 0);
    this.#unread = [{ chunk: Buffer.concat(unread.map(({ chunk }) => chunk)), bytes }];
    this.#kept = 1;
  }

  receiveEnd(trailers: HeaderBlock | undefined): number | undefined {
    if (this.#announced !== undefined && this.#announced > 0) return errorCode.protocolError;
    this.remoteEnded = true;
    this.#trailers = trailers;
    if (this.#isReading && this.#unread === undefined) this.handler?.onEnd(trailers);
    else this.#unreadEnd = true;
    return undefined;
  }

  /** Tells the handler what has come and comes, until `pause`. */
  read(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    const unread = this.#unread;
    this.#unread = undefined;
    this.#kept = 0;
    for (let i = 0; unread !== undefined && i < unread.length; i++) {
      const { chunk, bytes } = unread[i] as Unread;
      if (chunk.byteLength > 0) this.handler?.onData(chunk);
      this.#credit(bytes);
      // Paused by what it was told.
      if (!this.#isReading) {
        if (i + 1 < unread.length) this.#unread = unread.slice(i + 1);
        return;
      }
    }
    if (!this.#unreadEnd) return;
    this.#unreadEnd = false;
    this.handler?.onEnd(this.#trailers);
  }

  /** Has what comes wait. The peer may send as much as its window takes. */
  pause(): void {
    this.#isReading = false;
  }

  #credit(bytes: number): void {
    this.#toCredit += bytes;
    if (this.#toCredit < creditBytes || this.remoteEnded || this.isClosed) return;
    this.#receiveWindow += this.#toCredit;
    this.connection.creditWindow(this.id, this.#toCredit);
    this.#toCredit = 0;
  }

  // What goes out.

  /** Sends a list of fields: the answer's, or those of an interim answer. `isEnd`: nothing follows them. */
  sendHeaders(fields: readonly string[], isEnd: boolean): void {
    if (this.isClosed || this.localEnded) return;
    this.connection.writeHeaders(this.id, fields, isEnd);
    if (isEnd) this.#ended();
  }

  /** Sends a piece of the answer's body, as far and as soon as the peer takes it. It must not be changed meanwhile. */
  send(bytes: Uint8Array, sent?: Sent): void {
    if (this.isClosed || this.localEnded || this.#finish !== undefined) {
      sent?.(new Error("the stream is closed, or its answer is whole"));
      return;
    }
    this.#toSend ??= [];
    this.#toSend.push({ bytes, at: 0, sent });
    this.pump();
  }

  /** Sends the whole of an answer. Fields are names and values in turn; of trailers there may be none. */
  answer(fields: readonly string[], body: Uint8Array | undefined, trailers: readonly string[]): void {
    if (this.isClosed || this.localEnded) return;
    const { connection, id } = this;
    const bytes = body?.byteLength ?? 0;
    connection.writeHeaders(id, fields, false);
    if (bytes > 0 && bytes > Math.min(this.sendWindow, connection.sendable, maxFrameBytes)) {
      this.#toSend = [{ bytes: body as Uint8Array, at: 0, sent: undefined }];
      this.finish(trailers);
      return;
    }
    const isEnd = trailers.length === 0;
    if (bytes > 0 || isEnd) {
      connection.writeData(id, body ?? nothing, 0, bytes, isEnd);
      this.sendWindow -= bytes;
    }
    if (!isEnd) connection.writeHeaders(id, trailers, true);
    this.#ended();
  }

  /** Ends the answer after what was sent, with trailers where there are some. */
  finish(trailers?: Trailers, sent?: Sent): void {
    if (this.isClosed || this.localEnded || this.#finish !== undefined) {
      sent?.(new Error("the stream is closed, or its answer is whole"));
      return;
    }
    this.#finish = { trailers, sent };
    this.pump();
  }

  /** Sends what may be sent now. */
  pump(): void {
    const { connection } = this;
    for (let piece = this.#toSend?.[0]; piece !== undefined; piece = this.#toSend?.[0]) {
      const left = piece.bytes.byteLength - piece.at;
      const most = Math.min(left, this.sendWindow, connection.sendable, maxFrameBytes);
      const isEnd =
        most === left && this.#toSend?.length === 1 && this.#finish !== undefined && !this.#finish.trailers;
      // Nothing at all can always be sent, though it needs no frame unless it ends the answer.
      if (most <= 0 && left > 0) {
        connection.wait(this);
        return;
      }
      if (most > 0 || isEnd) {
        connection.writeData(this.id, piece.bytes, piece.at, most, isEnd);
        this.sendWindow -= most;
        piece.at += most;
      }
      if (piece.at < piece.bytes.byteLength) continue;
      this.#toSend?.shift();
      if (isEnd) {
        this.#sentAll(piece.sent);
        return;
      }
      piece.sent?.();
      if (this.isClosed) return;
    }
    if (this.#finish === undefined) return;
    const { trailers } = this.#finish;
    let fields: readonly string[] | undefined;
    try {
      fields = typeof trailers === "function" ? trailers() : trailers;
      if (this.isClosed) return;
      if (fields !== undefined && fields.length > 0) connection.writeHeaders(this.id, fields, true);
    } catch {
      // What HTTP does not take: this stream's fault alone.
      this.reset(errorCode.internalError);
      return;
    }
    if (fields === undefined || fields.length === 0) connection.writeData(this.id, nothing, 0, 0, true);
    this.#sentAll(undefined);
  }

  #sentAll(pieceSent: Sent | undefined): void {
    const finished = this.#finish?.sent;
    this.#finish = undefined;
    pieceSent?.();
    finished?.();
    this.#ended();
  }

  #ended(): void {
    if (this.isClosed) return;
    this.localEnded = true;
    if (this.remoteEnded) this.closed(errorCode.noError);
    else if (this.dropsRest) this.reset(errorCode.noError);
  }

  /** Resets it, unless it is closed. */
  reset(code: number): void {
    if (this.isClosed) return;
    this.connection.writeReset(this.id, code);
    this.closed(code);
  }

  #tellUnsent(): void {
    const error = new Error("the stream was closed");
    const pieces = this.#toSend ?? [];
    const finish = this.#finish;
    this.#toSend = undefined;
    this.#finish = undefined;
    for (const { sent } of pieces) sent?.(error);
    finish?.sent?.(error);
  }

  /** It is closed: told by the connection, or by itself. */
  closed(code: number): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.rstCode = code;
    this.connection.forget(this);
    if (this.#toSend !== undefined || this.#finish !== undefined) this.#tellUnsent();
    // What came and was not read is still its handler's, to the end.
    this.handler?.onClosed();
  }
}

const nothing = new Uint8Array(0);
