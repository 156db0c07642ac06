/** The requests of an HTTP/2 connection, a few in a turn of the event loop. */
import type { Http2Session, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";

type Handle = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  flags: number,
  rawHeaders: string[],
) => void;

/** One read of a socket brings some 900 requests that are reset at once, or 256 that are not. */
const perTurn = 8;

type Stream = Parameters<Handle>;

interface Line {
  /** In this turn. */
  begun: number;
  readonly waiting: Stream[];
}

/**
 * Wraps a handler of streams so that one connection begins no more than 8 requests before
 * other connections, and what came for those that run, have their turn. A request
 * that was reset while it waited is dropped: it never began (rapid reset,
 * CVE-2023-44487, is cheap to send and dear to serve).
 */
export function inTurns(handle: Handle): Handle {
  const lines = new WeakMap<Http2Session, Line>();

  function nextTurn(line: Line): void {
    line.begun = 0;
    for (let next = line.waiting.shift(); next !== undefined; next = line.waiting.shift()) {
      const [stream, headers, flags, rawHeaders] = next;
      if (stream.destroyed || stream.closed) continue;
      begin(line);
      handle(stream, headers, flags, rawHeaders);
      if (line.begun === perTurn) return;
    }
  }

  function begin(line: Line): void {
    if (line.begun++ === 0) setImmediate(nextTurn, line);
  }

  return (stream, headers, flags, rawHeaders) => {
    const { session } = stream;
    // Its connection has ended already.
    if (session === undefined) return;
    let line = lines.get(session);
    if (line === undefined) {
      line = { begun: 0, waiting: [] };
      lines.set(session, line);
    }
    if (line.begun < perTurn && line.waiting.length === 0) {
      begin(line);
      handle(stream, headers, flags, rawHeaders);
    } else line.waiting.push([stream, headers, flags, rawHeaders]);
  };
}
