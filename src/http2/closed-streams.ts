/** What a connection remembers of streams that are no longer open: for what still comes of them. */

/** What came for a stream that was reset here lately is no error: it was on its way. */
const mostReset = 1024;
/** Ids of streams that have ended: of these it is known that they were. */
const mostEnded = 64;

export class ClosedStreams {
  readonly #reset = new Set<number>();
  readonly #ended = new Uint32Array(mostEnded);
  #endedCount = 0;

  /** This side has reset it. */
  noteReset(id: number): void {
    this.#reset.add(id);
    if (this.#reset.size > mostReset) this.#reset.delete(this.#reset.values().next().value as number);
  }

  /** It was open, and is closed. */
  noteEnd(id: number): void {
    this.#ended[this.#endedCount++ % mostEnded] = id;
  }

  wasReset(id: number): boolean {
    return this.#reset.has(id);
  }

  hasEnded(id: number): boolean {
    return this.#ended.includes(id);
  }
}
