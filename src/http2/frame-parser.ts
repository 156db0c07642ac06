/** What a client's frames say: each is checked for itself, whatever has become of its stream (RFC 9113, section 6). */
import { FrameReader } from "./frames.ts";
import { HeaderAssembly, type OnBlock } from "./header-assembly.ts";
import { ConnectionError, errorCode, flag, frameType, readUint31, readUint32 } from "./wire.ts";

/** Told of what came. Bytes are a view of what was read, not to be kept. What it throws, `read` throws. */
export interface FrameHandler {
  /** A piece of a body. `bytes`: with its padding, as flow control counts. */
  onData(streamId: number, content: Buffer, bytes: number, isEnd: boolean): void;
  /** A request's header block, or that of its trailers. */
  onBlock: OnBlock;
  /** A priority that cannot be; priorities are of no account otherwise. `code` is that of the error. */
  onBadPriority(streamId: number, code: number): void;
  onReset(streamId: number, code: number): void;
  /** The payload is at bytes[from..to). */
  onSettings(bytes: Buffer, from: number, to: number): void;
  /** The payload is at bytes[from..to). */
  onPing(bytes: Buffer, from: number, to: number): void;
  onGoAway(): void;
  /** 0: of the connection. */
  onWindowUpdate(streamId: number, bytes: number): void;
}

export class FrameParser {
  readonly #handler: FrameHandler;
  readonly #reader = new FrameReader((type, flags, id, bytes, from, to) =>
    this.#onFrame(type, flags, id, bytes, from, to),
  );
  readonly #blocks: HeaderAssembly;

  constructor(maxHeaderBytes: number, handler: FrameHandler) {
    this.#handler = handler;
    this.#blocks = new HeaderAssembly(maxHeaderBytes, (id, isEnd, isSelfDependent, bytes, from, to) =>
      handler.onBlock(id, isEnd, isSelfDependent, bytes, from, to),
    );
  }

  /** Throws {@link ConnectionError} where a frame is malformed. */
  read(chunk: Buffer): void {
    this.#reader.read(chunk);
  }

  #onFrame(type: number, flags: number, id: number, bytes: Buffer, from: number, to: number): void {
    this.#blocks.check(type, id);
    switch (type) {
      case frameType.data:
        this.#onData(flags, id, bytes, from, to);
        break;
      case frameType.headers:
        this.#onHeaders(flags, id, bytes, from, to);
        break;
      case frameType.priority:
        this.#onPriority(id, bytes, from, to);
        break;
      case frameType.rstStream:
        if (to - from !== 4) throw ofWrongSize("RST_STREAM of an odd length");
        this.#handler.onReset(id, readUint32(bytes, from));
        break;
      case frameType.settings:
        this.#onSettings(flags, id, bytes, from, to);
        break;
      case frameType.pushPromise:
        throw new ConnectionError(errorCode.protocolError, "a client promises nothing");
      case frameType.ping:
        if (id !== 0) throw new ConnectionError(errorCode.protocolError, "PING on a stream");
        if (to - from !== 8) throw ofWrongSize("PING of an odd length");
        if (!(flags & flag.ack)) this.#handler.onPing(bytes, from, to);
        break;
      case frameType.goaway:
        if (id !== 0) throw new ConnectionError(errorCode.protocolError, "GOAWAY on a stream");
        if (to - from < 8) throw ofWrongSize("GOAWAY is too short");
        this.#handler.onGoAway();
        break;
      case frameType.windowUpdate:
        if (to - from !== 4) throw ofWrongSize("WINDOW_UPDATE of an odd length");
        this.#handler.onWindowUpdate(id, readUint31(bytes, from));
        break;
      case frameType.continuation:
        this.#blocks.continuation(flags, bytes, from, to);
        break;
    }
  }

  #onData(flags: number, id: number, bytes: Buffer, from: number, to: number): void {
    if (id === 0) throw new ConnectionError(errorCode.protocolError, "DATA on no stream");
    const content = bytes.subarray(contentStart(flags, bytes, from, to), contentEnd(flags, bytes, from, to));
    this.#handler.onData(id, content, to - from, (flags & flag.endStream) !== 0);
  }

  #onHeaders(flags: number, id: number, bytes: Buffer, from: number, to: number): void {
    if (id === 0) throw new ConnectionError(errorCode.protocolError, "HEADERS on no stream");
    const start = contentStart(flags, bytes, from, to);
    this.#blocks.headers(flags, id, bytes, start, contentEnd(flags, bytes, from, to));
  }

  #onPriority(id: number, bytes: Buffer, from: number, to: number): void {
    if (id === 0) throw new ConnectionError(errorCode.protocolError, "PRIORITY of no stream");
    if (to - from !== 5) this.#handler.onBadPriority(id, errorCode.frameSizeError);
    else if (readUint31(bytes, from) === id) this.#handler.onBadPriority(id, errorCode.protocolError);
  }

  #onSettings(flags: number, id: number, bytes: Buffer, from: number, to: number): void {
    if (id !== 0) throw new ConnectionError(errorCode.protocolError, "SETTINGS on a stream");
    if (!(flags & flag.ack)) this.#handler.onSettings(bytes, from, to);
    else if (to > from) throw ofWrongSize("an acknowledgement says nothing");
  }
}

/** Where the content of a frame begins that may be padded. */
function contentStart(flags: number, bytes: Buffer, from: number, to: number): number {
  if (!(flags & flag.padded)) return from;
  if (to === from || (bytes[from] as number) >= to - from) {
    throw new ConnectionError(errorCode.protocolError, "a frame is nothing but padding, and more");
  }
  return from + 1;
}

function contentEnd(flags: number, bytes: Buffer, from: number, to: number): number {
  return flags & flag.padded ? to - (bytes[from] as number) : to;
}

function ofWrongSize(message: string): ConnectionError {
  return new ConnectionError(errorCode.frameSizeError, message);
}
