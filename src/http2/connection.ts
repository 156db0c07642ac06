/**
 * HTTP/2 as a server speaks it (RFC 9113), for what RPCs need of it: no push, no priorities.
 *
 * Written here, and not taken from node:http2, since that costs more than all else that a
 * unary RPC needs: it makes three native objects and two Node streams for each.
 */
import type { Socket } from "node:net";
import { Arrivals } from "./arrivals.ts";
import { ClosedStreams } from "./closed-streams.ts";
import { type FrameHandler, FrameParser } from "./frame-parser.ts";
import { FrameWriter } from "./frame-writer.ts";
import { HeaderDecoder } from "./hpack/decoder.ts";
import type { HeaderBlock } from "./hpack/header-block.ts";
import { HpackError } from "./hpack/hpack-error.ts";
import { IdleWatch } from "./idle-watch.ts";
import { ResetLimit } from "./reset-limit.ts";
import { defaultSettings, readSettings } from "./settings.ts";
import { Http2Stream } from "./stream.ts";
import { StreamTable } from "./stream-table.ts";
import { ConnectionError, errorCode, initialWindowBytes, maxWindowBytes, setting } from "./wire.ts";

export interface Http2Options {
  /** Bytes of a request's headers, as HPACK counts them: above, its stream is reset. */
  maxHeaderBytes: number;
  /** Streams open at once; further ones are refused (REFUSED_STREAM). */
  maxStreams: number;
  /** Streams that may be reset at once before the connection is ended. */
  resetBurst: number;
  /** By which the burst is replenished. */
  resetsPerS: number;
  /** Milliseconds without a byte, and without a stream, after which the connection ends; 0: never. */
  idleMs: number;
  /** Serves a stream: gives it a handler. */
  onStream: (stream: Http2Stream) => void;
  /** Told of what is no client's fault, and ended the connection. */
  onError: (error: unknown) => void;
}

/** For what was said last to leave, where its peer may not read it. */
const lastWordMs = 5000;

export class Http2Connection implements FrameHandler {
  readonly socket: Socket;
  /** The peer's; a socket that has closed does not say it any more. */
  readonly remoteAddress: string | undefined;
  readonly #options: Http2Options;
  readonly #writer: FrameWriter;
  readonly #frames: FrameParser;
  readonly #decoder: HeaderDecoder;
  readonly #resets: ResetLimit;
  readonly #peer = { ...defaultSettings };
  readonly #streams = new StreamTable();
  /** Streams that wait for room to send, in the order in which they have their turn. */
  readonly #waiting = new Set<Http2Stream>();
  readonly #closed = new ClosedStreams();
  readonly #arrivals: Arrivals;
  readonly #idle: IdleWatch;
  #lastId = 0;
  #sendWindow = initialWindowBytes;
  #receiveWindow = initialWindowBytes;
  #toCredit = 0;
  /** GOAWAY was sent: no further streams are begun. */
  #isClosing = false;
  #hasEnded = false;
  #isPaused = false;
  #hasMoreRoom = false;
  #lastWord: NodeJS.Timeout | undefined;
  #isBroken = false;

  constructor(socket: Socket, options: Http2Options) {
    this.socket = socket;
    this.remoteAddress = socket.remoteAddress;
    this.#options = options;
    this.#writer = new FrameWriter(socket);
    this.#frames = new FrameParser(options.maxHeaderBytes, this);
    this.#arrivals = new Arrivals(options.onStream, (error) => this.#fail(error));
    this.#decoder = new HeaderDecoder({
      maxTableBytes: 4096,
      maxListBytes: options.maxHeaderBytes,
      dropsPadded: true,
    });
    this.#resets = new ResetLimit(options.resetBurst, options.resetsPerS);
    this.#writer.settings([
      [setting.maxConcurrentStreams, options.maxStreams],
      [setting.maxHeaderListSize, options.maxHeaderBytes],
    ]);
    this.#idle = new IdleWatch(socket, options.idleMs, () => this.close());
    // Its end is told by "close".
    socket.on("error", () => {
      this.#isBroken = true;
    });
    socket.on("data", (chunk: Buffer) => this.#onChunk(chunk));
    socket.on("drain", () => this.#onDrain());
    // What it has not been answered, it would not hear.
    socket.on("end", () => this.#end(errorCode.cancel));
    socket.on("close", () => this.#onClose());
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  /** Begins no further stream, and ends when those that are open have ended. */
  close(): void {
    if (this.#isClosing || this.#hasEnded) return;
    this.#isClosing = true;
    this.#writer.goAway(this.#lastId, errorCode.noError);
    this.#endWhenIdle();
  }

  // What streams ask for.

  /** Bytes of bodies that may be sent on the whole connection now. */
  get sendable(): number {
    return this.#writer.isFull ? 0 : this.#sendWindow;
  }

  wait(stream: Http2Stream): void {
    this.#waiting.add(stream);
  }

  writeHeaders(streamId: number, fields: readonly string[], isEnd: boolean): void {
    this.#writer.headers(streamId, fields, isEnd);
  }

  writeData(streamId: number, bytes: Uint8Array, at: number, length: number, isEnd: boolean): void {
    this.#sendWindow -= length;
    this.#writer.data(streamId, bytes, at, length, isEnd);
  }

  writeReset(streamId: number, code: number): void {
    this.#writer.reset(streamId, code);
    this.#closed.noteReset(streamId);
  }

  /** Lets the peer send so much more on a stream. */
  creditWindow(streamId: number, bytes: number): void {
    this.#writer.windowUpdate(streamId, bytes);
  }

  forget(stream: Http2Stream): void {
    this.#streams.delete(stream.id);
    this.#closed.noteEnd(stream.id);
    this.#waiting.delete(stream);
    if (this.#isClosing) this.#endWhenIdle();
  }

  // What the socket brings.

  #onChunk(chunk: Buffer): void {
    if (this.#hasEnded) return;
    this.#idle.heard();
    try {
      this.#frames.read(chunk);
      // Once for all that came: there may be a window's update for each byte.
      if (this.#hasMoreRoom) this.#pumpWaiting();
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#toCredit > initialWindowBytes >> 1) {
      this.#receiveWindow += this.#toCredit;
      this.#writer.windowUpdate(0, this.#toCredit);
      this.#toCredit = 0;
    }
    this.#arrivals.begin();
    // A peer that takes no answers is heard no further.
    if (this.#writer.isFull && !this.#isPaused) {
      this.#isPaused = true;
      this.socket.pause();
    }
  }

  #onDrain(): void {
    if (this.#isPaused) {
      this.#isPaused = false;
      this.socket.resume();
    }
    try {
      this.#pumpWaiting();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Lets those that wait send, each a frame at a time where there is little room. */
  #pumpWaiting(): void {
    this.#hasMoreRoom = false;
    for (const stream of [...this.#waiting]) {
      if (this.sendable <= 0) return;
      if (stream.sendWindow <= 0) continue;
      this.#waiting.delete(stream);
      stream.pump();
    }
  }

  // What frames say.

  onData(id: number, content: Buffer, bytes: number, isEnd: boolean): void {
    if (bytes > this.#receiveWindow) {
      throw new ConnectionError(errorCode.flowControlError, "more than the connection's window takes");
    }
    this.#receiveWindow -= bytes;
    // Of the connection at once: a stream that is not read must not hold the others up.
    this.#toCredit += bytes;
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      this.#onUnknown(id, "DATA");
      return;
    }
    if (stream.remoteEnded) {
      this.#resetFor(stream, errorCode.streamClosed);
      return;
    }
    const wrong = stream.receive(content, bytes, isEnd);
    if (wrong !== undefined) this.#resetFor(stream, wrong);
  }

  onBlock(
    id: number,
    isEnd: boolean,
    isSelfDependent: boolean,
    bytes: Buffer,
    from: number,
    to: number,
  ): void {
    const known = this.#streams.get(id);
    if (known !== undefined) {
      const trailers = this.#decoder.decodeTrailers(bytes, from, to);
      if (known.remoteEnded) {
        this.#resetFor(known, errorCode.streamClosed);
        return;
      }
      const isBad = !isEnd || trailers.malformed !== undefined || trailers.isTooLarge || isSelfDependent;
      const wrong = isBad ? errorCode.protocolError : known.receiveEnd(trailers);
      if (wrong !== undefined) this.#resetFor(known, wrong);
      return;
    }
    // Whatever becomes of it: the table must stay in step.
    const block = this.#decoder.decode(bytes, from, to);
    if (id % 2 === 0) throw new ConnectionError(errorCode.protocolError, "clients' streams have odd ids");
    if (id <= this.#lastId) {
      this.#onUnknown(id, "HEADERS");
      return;
    }
    if (this.#isClosing) return;
    this.#lastId = id;
    const refusal = this.#refusal(block, isSelfDependent);
    if (refusal !== undefined) {
      this.writeReset(id, refusal);
      // That there is no room it may not know yet.
      if (refusal !== errorCode.refusedStream && !this.#resets.take()) throw tooManyResets();
      return;
    }
    const stream = new Http2Stream(this, id, block, this.#peer.initialWindowSize);
    this.#streams.add(stream);
    if (isEnd && stream.receiveEnd(undefined) !== undefined) {
      this.#resetFor(stream, errorCode.protocolError);
      return;
    }
    this.#arrivals.add(stream);
  }

  #refusal(block: HeaderBlock, isSelfDependent: boolean): number | undefined {
    if (this.#streams.size >= this.#options.maxStreams) return errorCode.refusedStream;
    if (block.isTooLarge) return errorCode.enhanceYourCalm;
    return block.malformed !== undefined || isSelfDependent ? errorCode.protocolError : undefined;
  }

  onBadPriority(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) throw new ConnectionError(code, "PRIORITY is malformed");
    this.#resetFor(stream, code);
  }

  onReset(id: number, code: number): void {
    if (id > this.#lastId && this.#isClosing) return;
    if (id === 0 || id > this.#lastId) {
      throw new ConnectionError(errorCode.protocolError, "RST_STREAM of a stream that never was");
    }
    if (!this.#resets.take()) throw tooManyResets();
    this.#streams.get(id)?.closed(code);
  }

  onSettings(bytes: Buffer, from: number, to: number): void {
    const before = this.#peer.initialWindowSize;
    readSettings(this.#peer, bytes, from, to, (most) => this.#writer.setMaxTableBytes(most));
    const more = this.#peer.initialWindowSize - before;
    for (const stream of more === 0 ? [] : this.#streams.list()) {
      stream.sendWindow += more;
      if (stream.sendWindow > maxWindowBytes) {
        throw new ConnectionError(errorCode.flowControlError, "a window is too large");
      }
    }
    this.#writer.settingsAck();
    if (more > 0) this.#hasMoreRoom = true;
  }

  onPing(bytes: Buffer, from: number, to: number): void {
    this.#writer.pingAck(bytes, from, to);
  }

  onGoAway(): void {
    this.close();
  }

  onWindowUpdate(id: number, more: number): void {
    if (id === 0) {
      if (more === 0) throw new ConnectionError(errorCode.protocolError, "WINDOW_UPDATE of nothing");
      this.#sendWindow += more;
      if (this.#sendWindow > maxWindowBytes) {
        throw new ConnectionError(errorCode.flowControlError, "the connection's window is too large");
      }
      this.#hasMoreRoom = true;
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      if (id > this.#lastId && !this.#isClosing) {
        throw new ConnectionError(errorCode.protocolError, "WINDOW_UPDATE of a stream that never was");
      }
      return;
    }
    if (more === 0) {
      this.#resetFor(stream, errorCode.protocolError);
      return;
    }
    stream.sendWindow += more;
    if (stream.sendWindow > maxWindowBytes) {
      this.#resetFor(stream, errorCode.flowControlError);
      return;
    }
    if (!this.#waiting.delete(stream)) return;
    stream.pump();
  }

  /** A frame for a stream that is not open. */
  #onUnknown(id: number, what: string): void {
    if (id > this.#lastId) {
      if (this.#isClosing) return;
      throw new ConnectionError(errorCode.protocolError, `${what} on a stream that never was`);
    }
    // It was on its way as the stream was reset here.
    if (this.#closed.wasReset(id)) return;
    if (what === "DATA") {
      this.writeReset(id, errorCode.streamClosed);
      if (!this.#resets.take()) throw tooManyResets();
      return;
    }
    // Streams that were left out are closed too, but for the protocol never were (RFC 9113, section 5.1.1).
    const code = this.#closed.hasEnded(id) ? errorCode.streamClosed : errorCode.protocolError;
    throw new ConnectionError(code, `${what} on a stream that is closed`);
  }

  /** A client's fault. It may have as many as it may reset streams itself. */
  #resetFor(stream: Http2Stream, code: number): void {
    stream.reset(code);
    if (!this.#resets.take()) throw tooManyResets();
  }

  // How it ends.

  #fail(error: unknown): void {
    const code =
      error instanceof ConnectionError
        ? error.code
        : error instanceof HpackError
          ? errorCode.compressionError
          : errorCode.internalError;
    if (this.#hasEnded) return;
    this.#isClosing = true;
    this.#writer.goAway(this.#lastId, code);
    this.#end(errorCode.cancel);
    if (code === errorCode.internalError) this.#options.onError(error);
  }

  #endWhenIdle(): void {
    if (this.#streams.size === 0) this.#end(errorCode.noError);
  }

  #end(code: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#idle.stop();
    this.#closeStreams(code);
    this.#writer.end();
    this.socket.end();
    this.#lastWord = setTimeout(() => this.socket.destroy(), lastWordMs).unref();
  }

  #onClose(): void {
    this.#hasEnded = true;
    this.#idle.stop();
    clearTimeout(this.#lastWord);
    this.#closeStreams(this.#isBroken ? errorCode.internalError : errorCode.cancel);
  }

  /** All of them, whatever becomes of one. */
  #closeStreams(code: number): void {
    for (const stream of this.#streams.list()) {
      try {
        stream.closed(code);
      } catch (error) {
        this.#options.onError(error);
      }
    }
  }
}

function tooManyResets(): ConnectionError {
  return new ConnectionError(errorCode.enhanceYourCalm, "too many streams are reset");
}
