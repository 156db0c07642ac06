/** The HTTP/2 sessions of a listener: by this server's own code, or by node:http2. */
import type { RequestListener } from "node:http";
import {
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import { Http2Connection } from "./http2/connection.ts";
import { NodeStream } from "./http2/node-stream.ts";
import type { Http2Stream } from "./http2/stream.ts";
import type { ListenerOptions } from "./listener-options.ts";
import { continueOnRead, dropUnread } from "./request-body.ts";
import { inTurns } from "./turns.ts";

export interface Http2Sessions {
  /** Open ones. */
  readonly size: number;
  /** Takes a connection of which nothing has been read. */
  serve(socket: Socket): void;
  /** Begins no further stream; each ends when its streams have. */
  drain(): void;
}

const sessionIdleTimeoutMs = 300_000;

/** `takeStream` is asked before the handler, as an `UnaryEntrance` is. */
export function createHttp2Sessions(
  options: ListenerOptions,
  handler: RequestListener,
  takeStream: (stream: Http2Stream, passOn: () => void) => boolean,
): Http2Sessions {
  const compatible = createCompatible(handler);
  const idleMs = options.sessionIdleTimeoutMs ?? sessionIdleTimeoutMs;
  const sessions = new Set<Pick<ServerHttp2Session, "close">>();

  function createOwn(): (socket: Socket) => void {
    const shared = {
      maxHeaderBytes: options.maxHeaderBytes,
      maxStreams: options.maxStreamsPerConnection,
      resetBurst: options.streamResetBurst,
      resetsPerS: options.streamResetRate,
      idleMs,
      onStream(stream: Http2Stream) {
        const passOn = () => {
          stream.dropsRest = true;
          const nodeStream = new NodeStream(stream);
          const { headers, rawHeaders } = stream.block;
          // Copies: the same ones may come with the next request.
          compatible.emit("stream", nodeStream, Object.assign(Object.create(null), headers), 0, [
            ...rawHeaders,
          ]);
        };
        if (!takeStream(stream, passOn)) passOn();
      },
      onError: (error: unknown) => options.onConnectionError?.(error),
    };
    return (socket) => {
      const connection = new Http2Connection(socket, shared);
      sessions.add(connection);
      socket.once("close", () => sessions.delete(connection));
    };
  }

  function createNode(): (socket: Socket) => void {
    const { maxHeaderBytes, maxStreamsPerConnection, streamResetBurst, streamResetRate } = options;
    const server = createServer({
      settings: { maxConcurrentStreams: maxStreamsPerConnection, maxHeaderListSize: maxHeaderBytes },
      streamResetBurst,
      streamResetRate,
    });
    server.on("session", (session) => {
      sessions.add(session);
      session.once("close", () => sessions.delete(session));
      if (idleMs > 0) session.setTimeout(idleMs, () => session.close());
    });
    // A connection that breaks tells each of its streams, those that wait for their turn too; so does `close`.
    server.on("stream", (stream) => stream.on("error", () => {}));
    server.on(
      "stream",
      inTurns((stream, headers, flags, rawHeaders) => {
        stream.once("finish", dropUnread);
        compatible.emit("stream", stream, headers, flags, rawHeaders);
      }),
    );
    return (socket) => void server.emit("connection", socket);
  }

  return {
    get size() {
      return sessions.size;
    },
    serve: options.nodeHttp ? createNode() : createOwn(),
    drain() {
      for (const session of sessions) session.close();
    },
  };
}

/**
 * A server without connections of its own, for streams that are passed on to it: it makes the compatibility
 * API's objects, which stand in for node:http's, as under Fastify with http2: true.
 */
function createCompatible(handler: RequestListener): Http2Server {
  const handle = handler as unknown as (req: Http2ServerRequest, res: Http2ServerResponse) => void;
  const compatible = createServer();
  compatible.on("request", handle);
  compatible.on("checkContinue", (req, res) => {
    continueOnRead(req.stream, res);
    handle(req, res);
  });
  return compatible;
}
