/** A request's body as it comes in. */
import { Pieces } from "../pieces.ts";
import type { Codec } from "./codec.ts";
import { announced, frameHeadBytes } from "./request-message.ts";

export class Body extends Pieces {
  /** It has come to its end, and nothing of it is missing. */
  isWhole = false;

  /** Whether more has come, or is announced, than a message of so many bytes takes. */
  isAbove(maxMessageBytes: number, codec: Codec): boolean {
    if (!codec.isFramed) return this.bytes > maxMessageBytes;
    const most = maxMessageBytes + frameHeadBytes;
    if (codec.isText) return this.bytes * 0.75 > most;
    // What is too large is refused on its announcement, not when it has come.
    const { first } = this;
    if (first === undefined) return false;
    return this.bytes > most || (first.byteLength >= frameHeadBytes && announced(first) > maxMessageBytes);
  }
}
