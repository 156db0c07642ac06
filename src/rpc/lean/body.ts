/** A request's body as it comes in. */
import type { Codec } from "./codec.ts";
import { announced, frameHeadBytes } from "./request-message.ts";

export class Body {
  readonly chunks: Buffer[] = [];
  bytes = 0;
  /** It has come to its end, and nothing of it is missing. */
  isWhole = false;

  add(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.bytes += chunk.byteLength;
  }

  /** Whether more has come, or is announced, than a message of so many bytes takes. */
  isAbove(maxMessageBytes: number, codec: Codec): boolean {
    if (!codec.isFramed) return this.bytes > maxMessageBytes;
    const most = maxMessageBytes + frameHeadBytes;
    if (codec.isText) return this.bytes * 0.75 > most;
    // What is too large is refused on its announcement, not when it has come.
    const [first] = this.chunks;
    if (first === undefined) return false;
    return this.bytes > most || (first.byteLength >= frameHeadBytes && announced(first) > maxMessageBytes);
  }

  whole(): Uint8Array {
    const [first] = this.chunks;
    return first !== undefined && this.chunks.length === 1 ? first : Buffer.concat(this.chunks);
  }
}
