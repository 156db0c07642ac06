/** The HTTP/1.1 connections of a listener that are not node:http's. */
import type { Socket } from "node:net";
import { createRunningList } from "../running-list.ts";
import { Http1Connection, type Http1Options } from "./connection.ts";

export interface Http1ConnectionsOptions extends Pick<Http1Options, "maxHeaderBytes" | "take" | "onError"> {
  /** Milliseconds for the first byte to come; 0: no limit. */
  headersTimeoutMs: () => number;
  /** Milliseconds that a connection may rest between two requests, as its client is told; 0: no limit. */
  keepAliveTimeoutMs: () => number;
  /** Milliseconds that a connection has to ask for something still, once the listener drains. */
  lingerMs: number;
  /** Told of a connection whose first byte has not come in time. */
  onLate: (socket: Socket) => void;
  /** Told of a connection whose client has ended its side in the middle of a request. */
  onCut: (socket: Socket) => void;
  /** Gives node:http a connection, with what was read of it and not answered. */
  handOver: (socket: Socket, unread: Buffer) => void;
}

export interface Http1Connections {
  /** Open ones. */
  readonly size: number;
  /** Takes a connection of which nothing has been read. */
  serve(socket: Socket): void;
  /** Ends those that rest. What is asked from now on is answered for the last time. */
  drain(): void;
}

/** Of grace, after what the client was told: node:http's own. */
const keepAliveGraceMs = 1000;

export function createHttp1Connections(options: Http1ConnectionsOptions): Http1Connections {
  const { keepAliveTimeoutMs, lingerMs } = options;
  const restMs = () => {
    const timeoutMs = keepAliveTimeoutMs();
    return timeoutMs > 0 ? timeoutMs + keepAliveGraceMs : 0;
  };
  const open = new Set<Http1Connection>();
  let draining = false;

  /** Its next request may be on its way. */
  function endUnlessAsked(connection: Http1Connection): void {
    const { socket } = connection;
    const timer = setTimeout(() => connection.isIdle && socket.destroy(), lingerMs);
    socket.once("close", () => clearTimeout(timer));
  }

  const shared: Http1Options = {
    maxHeaderBytes: options.maxHeaderBytes,
    keepAliveS: () => Math.floor(keepAliveTimeoutMs() / 1000),
    fresh: createRunningList(options.headersTimeoutMs, ({ socket }: Http1Connection) =>
      options.onLate(socket),
    ),
    resting: createRunningList(restMs, ({ socket }: Http1Connection) => void socket.destroy()),
    take: options.take,
    onError: options.onError,
    onCut: ({ socket }) => options.onCut(socket),
    handOver(connection, unread) {
      open.delete(connection);
      options.handOver(connection.socket, unread);
    },
    onIdle: (connection) => {
      if (draining) endUnlessAsked(connection);
    },
  };

  return {
    get size() {
      return open.size;
    },
    serve(socket) {
      const connection = new Http1Connection(socket, shared);
      open.add(connection);
      socket.once("close", () => open.delete(connection));
    },
    drain() {
      draining = true;
      for (const connection of open) {
        connection.drain();
        if (connection.isIdle) endUnlessAsked(connection);
      }
    },
  };
}
