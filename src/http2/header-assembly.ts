/** Header blocks, put together of HEADERS and CONTINUATION (RFC 9113, sections 4.3 and 6.10). */
import { ConnectionError, errorCode, flag, frameType, maxFrameBytes, readUint31 } from "./wire.ts";

/** Of a block on the wire, more than the limit of its decoded size: it has to be read even if it is refused. */
const blockFactor = 2;
const mostContinuations = 32;

/** Takes a block that is whole, at bytes[from..to). `isSelfDependent`: its stream is said to depend on itself. */
export type OnBlock = (
  streamId: number,
  isEnd: boolean,
  isSelfDependent: boolean,
  bytes: Buffer,
  from: number,
  to: number,
) => void;

export class HeaderAssembly {
  readonly #mostBytes: number;
  readonly #onBlock: OnBlock;
  #partial:
    | { readonly streamId: number; readonly isEnd: boolean; readonly isSelfDependent: boolean }
    | undefined;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(maxHeaderBytes: number, onBlock: OnBlock) {
    this.#mostBytes = Math.max(maxFrameBytes, blockFactor * maxHeaderBytes);
    this.#onBlock = onBlock;
  }

  /** Nothing may come between the frames of a block. */
  check(type: number, streamId: number): void {
    if (this.#partial === undefined) return;
    if (type !== frameType.continuation || streamId !== this.#partial.streamId) {
      throw new ConnectionError(errorCode.protocolError, "a header block is interrupted");
    }
  }

  /** HEADERS, its padding taken off. */
  headers(flags: number, streamId: number, bytes: Buffer, from: number, to: number): void {
    let start = from;
    let isSelfDependent = false;
    if (flags & flag.priority) {
      if (to - start < 5) throw new ConnectionError(errorCode.frameSizeError, "HEADERS are too short");
      isSelfDependent = readUint31(bytes, start) === streamId;
      start += 5;
    }
    const isEnd = (flags & flag.endStream) !== 0;
    if (flags & flag.endHeaders) {
      this.#onBlock(streamId, isEnd, isSelfDependent, bytes, start, to);
      return;
    }
    this.#partial = { streamId, isEnd, isSelfDependent };
    this.#add(bytes, start, to);
  }

  continuation(flags: number, bytes: Buffer, from: number, to: number): void {
    const partial = this.#partial;
    if (partial === undefined) {
      throw new ConnectionError(errorCode.protocolError, "CONTINUATION of nothing");
    }
    this.#add(bytes, from, to);
    if (!(flags & flag.endHeaders)) return;
    const whole = Buffer.concat(this.#pieces);
    this.#partial = undefined;
    this.#pieces = [];
    this.#bytes = 0;
    this.#onBlock(partial.streamId, partial.isEnd, partial.isSelfDependent, whole, 0, whole.byteLength);
  }

  #add(bytes: Buffer, from: number, to: number): void {
    this.#pieces.push(Uint8Array.prototype.slice.call(bytes, from, to) as Buffer);
    this.#bytes += to - from;
    if (this.#bytes > this.#mostBytes || this.#pieces.length > mostContinuations) {
      throw new ConnectionError(errorCode.enhanceYourCalm, "a header block does not end");
    }
  }
}
