/** Frames that a connection writes. */
import type { Duplex } from "node:stream";
import { HeaderEncoder } from "./hpack/encoder.ts";
import { Output } from "./output.ts";
import { flag, frameHeadBytes, frameType, maxFrameBytes } from "./wire.ts";

export class FrameWriter {
  readonly #output: Output;
  readonly #encoder = new HeaderEncoder();

  constructor(socket: Duplex) {
    this.#output = new Output(socket);
  }

  /** The peer does not take what was written: no more of answers' bodies is, until the socket drains. */
  get isFull(): boolean {
    return this.#output.isFull;
  }

  /** What the peer's decoder has room for. */
  setMaxTableBytes(bytes: number): void {
    this.#encoder.setMaxTableBytes(bytes);
  }

  /** `fields`: names and values in turn. Throws TypeError, with nothing written, where HTTP does not take one. */
  headers(streamId: number, fields: readonly string[], isEnd: boolean): void {
    const flags = isEnd ? flag.endStream : 0;
    const room = this.#encoder.room(fields);
    if (room + frameHeadBytes > maxFrameBytes) {
      this.#longHeaders(streamId, fields, flags, room);
      return;
    }
    // The head is written once the length of what follows it is known.
    const output = this.#output;
    const slab = output.reserve(room + frameHeadBytes);
    const head = output.at;
    output.frame(0, frameType.headers, flags | flag.endHeaders, streamId);
    let end: number;
    try {
      end = this.#encoder.encode(fields, slab, output.at);
    } catch (error) {
      output.advance(head);
      throw error;
    }
    const length = end - output.at;
    slab[head] = length >> 16;
    slab[head + 1] = length >> 8;
    slab[head + 2] = length;
    output.advance(end);
  }

  #longHeaders(streamId: number, fields: readonly string[], flags: number, room: number): void {
    const block = Buffer.allocUnsafe(room);
    const length = this.#encoder.encode(fields, block, 0);
    for (let at = 0; at === 0 || at < length; at += maxFrameBytes) {
      const to = Math.min(length, at + maxFrameBytes);
      const last = to === length ? flag.endHeaders : 0;
      if (at === 0) this.#output.frame(to, frameType.headers, flags | last, streamId);
      else this.#output.frame(to - at, frameType.continuation, last, streamId);
      this.#output.write(block, at, to);
    }
  }

  /** A frame's worth at most. */
  data(streamId: number, bytes: Uint8Array, at: number, length: number, isEnd: boolean): void {
    this.#output.frame(length, frameType.data, isEnd ? flag.endStream : 0, streamId);
    if (length > 0) this.#output.write(bytes, at, at + length);
  }

  reset(streamId: number, code: number): void {
    this.#output.frame(4, frameType.rstStream, 0, streamId);
    this.#output.uint32(code);
  }

  /** 0: of the connection. */
  windowUpdate(streamId: number, bytes: number): void {
    this.#output.frame(4, frameType.windowUpdate, 0, streamId);
    this.#output.uint32(bytes);
  }

  settings(entries: readonly (readonly [id: number, value: number])[]): void {
    this.#output.frame(entries.length * 6, frameType.settings, 0, 0);
    for (const [id, value] of entries) {
      this.#output.write(Uint8Array.of(id >> 8, id));
      this.#output.uint32(value);
    }
  }

  settingsAck(): void {
    this.#output.frame(0, frameType.settings, flag.ack, 0);
  }

  /** Answers a PING with what it brought. */
  pingAck(bytes: Uint8Array, from: number, to: number): void {
    this.#output.frame(to - from, frameType.ping, flag.ack, 0);
    this.#output.write(bytes, from, to);
  }

  goAway(lastStreamId: number, code: number): void {
    this.#output.frame(8, frameType.goaway, 0, 0);
    this.#output.uint32(lastStreamId);
    this.#output.uint32(code);
  }

  /** Writes all that there is: nothing follows. */
  end(): void {
    this.#output.flush(true);
  }
}
