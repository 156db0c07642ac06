/** The streams of a connection that have come and are to be begun. */
import type { Http2Stream } from "./stream.ts";

/** Begun in a turn of the event loop, before other connections have theirs. */
const streamsPerTurn = 64;

export class Arrivals {
  readonly #begin: (stream: Http2Stream) => void;
  readonly #onError: (error: unknown) => void;
  #streams: Http2Stream[] = [];
  #isTurnDue = false;

  /** `onError` is told of what `begin` throws: the turn is over then. */
  constructor(begin: (stream: Http2Stream) => void, onError: (error: unknown) => void) {
    this.#begin = begin;
    this.#onError = onError;
  }

  add(stream: Http2Stream): void {
    this.#streams.push(stream);
  }

  /** Begins those that have come, some in each turn: one that was reset meanwhile never began. */
  begin(): void {
    if (!this.#isTurnDue) this.#beginTurn();
  }

  #beginTurn(): void {
    this.#isTurnDue = false;
    let begun = 0;
    const streams = this.#streams;
    let at = 0;
    try {
      for (; at < streams.length && begun < streamsPerTurn; at++) {
        const stream = streams[at] as Http2Stream;
        if (stream.isClosed) continue;
        begun++;
        this.#begin(stream);
        // What nobody has read by now is kept, without all that was read with it.
        stream.keepUnread();
      }
    } catch (error) {
      this.#onError(error);
      return;
    }
    if (at === streams.length) streams.length = 0;
    else {
      this.#streams = streams.slice(at);
      for (const stream of this.#streams) stream.keepUnread();
      this.#isTurnDue = true;
      setImmediate(() => this.#beginTurn());
    }
  }
}
