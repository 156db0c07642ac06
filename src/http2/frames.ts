/** Bytes of a connection, taken apart into frames (RFC 9113, section 4.1). */
import {
  ConnectionError,
  errorCode,
  flag,
  frameHeadBytes,
  frameType,
  maxFrameBytes,
  preface,
  readUint31,
} from "./wire.ts";

/** Takes a frame whose payload is bytes[from..to): a view of what was read, not to be kept. */
export type OnFrame = (
  type: number,
  flags: number,
  streamId: number,
  bytes: Buffer,
  from: number,
  to: number,
) => void;

/** Reads the preface and then frames, however they are cut into chunks. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  #rest: Buffer | undefined;
  #prefaceRead = 0;
  #isFirst = true;

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame;
  }

  /** Tells of each whole frame. Throws {@link ConnectionError}, and what `onFrame` throws. */
  read(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    let at = this.#readPreface(bytes);
    while (bytes.byteLength - at >= frameHeadBytes) {
      const length = bytes.readUIntBE(at, 3);
      const type = bytes[at + 3] as number;
      if (length > maxFrameBytes) throw new ConnectionError(errorCode.frameSizeError, "a frame is too long");
      const from = at + frameHeadBytes;
      if (bytes.byteLength - from < length) break;
      const isPreface = type === frameType.settings && ((bytes[from - 5] as number) & flag.ack) === 0;
      if (this.#isFirst && !isPreface) {
        throw new ConnectionError(errorCode.protocolError, "the preface is no SETTINGS");
      }
      this.#isFirst = false;
      at = from + length;
      this.#onFrame(type, bytes[from - 5] as number, readUint31(bytes, from - 4), bytes, from, at);
    }
    // A copy: the rest of a frame must not keep all that was read with it.
    if (at < bytes.byteLength) this.#rest = Uint8Array.prototype.slice.call(bytes, at) as Buffer;
  }

  #readPreface(bytes: Buffer): number {
    if (this.#prefaceRead === preface.byteLength) return 0;
    const to = Math.min(bytes.byteLength, preface.byteLength - this.#prefaceRead);
    if (bytes.compare(preface, this.#prefaceRead, this.#prefaceRead + to, 0, to) !== 0) {
      throw new ConnectionError(errorCode.protocolError, "this is not HTTP/2's preface");
    }
    this.#prefaceRead += to;
    return to;
  }
}
