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

interface Line {
  /** In this turn. */
  begun: number;
  readonly waiting: Parameters<Handle>[];
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
      const [stream] = next;
      if (stream.destroyed || stream.closed) continue;
      begin(line, next);
      if (line.begun === perTurn) return;
    }
  }

  function begin(line: Line, request: Parameters<Handle>): void {
    if (line.begun++ === 0) setImmediate(nextTurn, line);
    handle(...request);
  }

  return (...request) => {
    const [{ session }] = request;
    // Its connection has ended already.
    if (session === undefined) return;
    let line = lines.get(session);
    if (line === undefined) {
      line = { begun: 0, waiting: [] };
      lines.set(session, line);
    }
    if (line.begun < perTurn && line.waiting.length === 0) begin(line, request);
    else line.waiting.push(request);
  };
}
