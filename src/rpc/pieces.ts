/** A request's body in the pieces that it comes in, of which a client may make millions. */
import { compact } from "../compact.ts";

/** More than an honest client makes of a small message. */
const mostPieces = 128;
/** Pieces that are larger on the average cost little beside what they hold. */
const smallPieceBytes = 1024;
const blockBytes = 64 * 1024;
const nothing = new Uint8Array(0);

/** Pieces as they come in: many small ones are made one, since each costs far more than it holds. */
export class Pieces {
  bytes = 0;
  /** Nearly all come in one. */
  protected first: Uint8Array | undefined;
  /** All of them, where there are more. */
  #all: Uint8Array[] | undefined;
  /** Of those at the end, which were not looked at yet. */
  #latest = 0;
  #latestBytes = 0;

  add(chunk: Uint8Array): void {
    // A body in one piece, as nearly all are, is read at once.
    if (this.first === undefined) this.first = chunk;
    else {
      if (this.#all === undefined) {
        this.first = compact(this.first);
        this.#all = [this.first];
      }
      this.#all.push(compact(chunk));
    }
    this.bytes += chunk.byteLength;
    this.#latestBytes += chunk.byteLength;
    if (++this.#latest < mostPieces) return;
    if (this.#latestBytes < mostPieces * smallPieceBytes) {
      this.#all?.push(Buffer.concat(this.#all.splice(-mostPieces)));
      this.first = this.#all?.[0];
    }
    this.#latest = 0;
    this.#latestBytes = 0;
  }

  get chunks(): readonly Uint8Array[] {
    return this.#all ?? (this.first === undefined ? [] : [this.first]);
  }

  whole(): Uint8Array {
    return this.#all === undefined ? (this.first ?? nothing) : Buffer.concat(this.#all);
  }
}

/**
 * Passes a body on in fewer pieces: gathered up to the end of a message or, of larger
 * ones, to 64 KiB, since a reader copies what it has of a message with every piece.
 * What is above `maxMessageBytes`, or announced to be, is passed on at once, to be refused.
 * `isFramed`: messages have the head that gRPC gives them, of flags and length.
 */
export async function* gather(
  body: AsyncIterable<Uint8Array>,
  { isFramed, maxMessageBytes }: { isFramed: boolean; maxMessageBytes: number },
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = isFramed ? new MessageEnds(Math.min(blockBytes, maxMessageBytes)) : undefined;
  let pieces = new Pieces();
  let bytes = 0;
  for await (const chunk of body) {
    pieces.add(chunk);
    bytes += chunk.byteLength;
    const isDue = end === undefined ? bytes > maxMessageBytes : end.isReached(chunk);
    if (!isDue && pieces.bytes < blockBytes) continue;
    yield pieces.whole();
    pieces = new Pieces();
  }
  if (pieces.bytes > 0) yield pieces.whole();
}

const headBytes = 5;

/** Follows a body from message to message. */
class MessageEnds {
  readonly #largeBytes: number;
  #headRead = 0;
  #length = 0;
  #missing = 0;

  constructor(largeBytes: number) {
    this.#largeBytes = largeBytes;
  }

  /** Whether a message ends in the chunk that comes next, or the head of a large one. */
  isReached(chunk: Uint8Array): boolean {
    let reached = false;
    for (let at = 0; at < chunk.byteLength; ) {
      if (this.#headRead < headBytes) {
        if (this.#headRead > 0) this.#length = this.#length * 256 + (chunk[at] ?? 0);
        at++;
        if (++this.#headRead < headBytes) continue;
        this.#missing = this.#length;
        this.#length = 0;
        // Its reader may refuse it for its length: it is told at once.
        if (this.#missing > this.#largeBytes) reached = true;
      } else {
        const taken = Math.min(this.#missing, chunk.byteLength - at);
        this.#missing -= taken;
        at += taken;
      }
      if (this.#missing === 0) {
        this.#headRead = 0;
        reached = true;
      }
    }
    return reached;
  }
}
