/** Transports within the process: what they send arrives as if it had come over the network. */
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, isIP, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { v7 as uuidv7 } from "uuid";
import { type TokenSource, withApiKey } from "../client.ts";

/** How a client within the server's process calls it. */
export interface TransportOptions {
  /** Sent with every call; default none. */
  token?: TokenSource | undefined;
  /** Default "connect". Each of them carries unary calls and streams of every kind. */
  protocol?: "connect" | "grpc" | "grpc-web";
  /** The IP address that calls come from, as far as the server can tell. Default 127.0.0.1. */
  peerAddress?: string;
  /** Interceptors of the client; the first one is outermost. */
  interceptors?: Interceptor[];
}

export interface InProcessClients {
  transport(options?: TransportOptions): Transport;
  /** Takes no more connections. Those that are open are the server's to end. */
  close(): void;
}

const creators = {
  connect: createConnectTransport,
  grpc: createGrpcTransport,
  "grpc-web": createGrpcWebTransport,
};

/**
 * Creates clients of a server whether or not it listens. Their connections are real sockets, which
 * `acceptor` is given: verdicts, limits, counting and logging cannot differ from those of other
 * clients. The sockets are of a private folder (on Windows, named pipes), not of the network.
 */
export function createInProcessClients(options: {
  /** Resolves once the server is ready for connections. */
  acceptor: () => Promise<(socket: Socket) => void>;
  apiKeyHeader: string;
}): InProcessClients {
  const doors = new Map<string, { path: string; close: () => void }>();
  let closed = false;

  function doorOf(peerAddress: string): string {
    if (closed) throw new Error("the server is closed: it has no more transports");
    if (isIP(peerAddress) === 0) throw new TypeError(`peerAddress must be an IP address: ${peerAddress}`);
    const door = doors.get(peerAddress) ?? openDoor(peerAddress, options.acceptor);
    doors.set(peerAddress, door);
    return door.path;
  }

  const refuseClosed: Interceptor = (next) => async (req) => {
    if (closed) throw new ConnectError("the server is closed", Code.Unavailable);
    return next(req);
  };

  return {
    transport({ token, protocol = "connect", peerAddress = "127.0.0.1", interceptors = [] } = {}) {
      const path = doorOf(peerAddress);
      const header = options.apiKeyHeader;
      return creators[protocol]({
        // Nobody resolves it.
        baseUrl: "http://localhost",
        httpVersion: "2",
        nodeOptions: { createConnection: () => connect(path) },
        interceptors: [
          ...interceptors,
          refuseClosed,
          ...(token === undefined ? [] : [withApiKey(token, { header })]),
        ],
      });
    },
    close() {
      closed = true;
      for (const { close } of doors.values()) close();
    },
  };
}

/** A socket server that only this user can reach, and that hands over what connects. */
function openDoor(peerAddress: string, acceptor: () => Promise<(socket: Socket) => void>) {
  const directory = process.platform === "win32" ? undefined : mkdtempSync(join(tmpdir(), "latchkey-"));
  const path = directory === undefined ? `\\\\.\\pipe\\latchkey-${uuidv7()}` : join(directory, "socket");
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    // Whoever takes it over deals with its errors.
    socket.on("error", () => {});
    Object.defineProperty(socket, "remoteAddress", { value: peerAddress });
    acceptor().then(
      (accept) => accept(socket),
      (error: Error) => socket.destroy(error),
    );
  });
  // It is bound when this returns: a client may connect at once. Not through a cluster's primary, which would take its time.
  server.listen({ path, exclusive: true }).unref();
  return {
    path,
    close() {
      server.close();
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}
