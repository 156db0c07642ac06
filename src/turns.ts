/** The requests of an HTTP/2 connection, a few in a turn of the event loop. */
import type { Http2ServerRequest, Http2ServerResponse, Http2Session } from "node:http2";

type Handle = (req: Http2ServerRequest, res: Http2ServerResponse) => void;

/** One read of a socket brings some 900 requests that are reset at once, or 256 that are not. */
const perTurn = 8;

interface Line {
  /** In this turn. */
  begun: number;
  readonly waiting: [Http2ServerRequest, Http2ServerResponse][];
}

/**
 * Wraps a handler so that one connection begins no more than 8 requests before
 * other connections, and what came for those that run, have their turn. A request
 * that was reset while it waited is dropped: it never began (rapid reset,
 * CVE-2023-44487, is cheap to send and dear to serve).
 */
export function inTurns(handle: Handle): Handle {
  const lines = new WeakMap<Http2Session, Line>();

  function nextTurn(line: Line): void {
    line.begun = 0;
    for (let next = line.waiting.shift(); next !== undefined; next = line.waiting.shift()) {
      const [{ stream }] = next;
      if (stream.destroyed || stream.closed) continue;
      begin(line, ...next);
      if (line.begun === perTurn) return;
    }
  }

  function begin(line: Line, req: Http2ServerRequest, res: Http2ServerResponse): void {
    if (line.begun++ === 0) setImmediate(nextTurn, line);
    handle(req, res);
  }

  return (req, res) => {
    const { session } = req.stream;
    // Its connection has ended already.
    if (session === undefined) return;
    let line = lines.get(session);
    if (line === undefined) {
      line = { begun: 0, waiting: [] };
      lines.set(session, line);
    }
    if (line.begun < perTurn && line.waiting.length === 0) begin(line, req, res);
    else line.waiting.push([req, res]);
  };
}
