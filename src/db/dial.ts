/** The sockets that postgres.js is given: each to the host that is asked for at that moment, and cut where nothing more comes. */
import { once } from "node:events";
import net from "node:net";
import { within } from "../within.ts";

/** Where a server listens. */
export type Place = { readonly host: string; readonly port: number } | { readonly path: string };

export interface DialerOptions {
  /** Asked for each connection anew: after a fail-over it is another. */
  find: () => Promise<Place>;
  /** Milliseconds to find a place and connect to it. */
  connectTimeoutMs: number;
  /**
   * Milliseconds after which a connection is cut that was sent something and
   * answers nothing; 0: never. Longer than any statement may take. A server whose
   * machine is gone says no more: without this, TCP would try for a quarter of an hour.
   */
  silenceMs: number;
}

export interface Dialer {
  /**
   * Resolves with a connected socket. Never rejects, since postgres.js would wait for
   * that connection for ever: where it cannot connect, the socket fails soon after.
   */
  dial(): Promise<net.Socket>;
  /** Cuts what is open, and what is still being opened. */
  close(): void;
}

interface Watched {
  read: number;
  written: number;
  /** When everything that was sent had been answered for the last time. */
  quietSinceMs: number;
}

const lookMs = 100;

export function createDialer(options: DialerOptions): Dialer {
  const sockets = new Map<net.Socket, Watched>();
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  async function open(): Promise<net.Socket> {
    const place = await options.find();
    const socket = net.connect({ ...place, noDelay: true });
    // Until postgres.js listens itself, and after it has stopped to.
    socket.on("error", () => {});
    sockets.set(socket, { read: 0, written: 0, quietSinceMs: performance.now() });
    timer ??= setInterval(look, lookMs).unref();
    try {
      await once(socket, "connect", { signal: AbortSignal.timeout(options.connectTimeoutMs) });
    } catch (error) {
      socket.destroy();
      throw error;
    }
    // What postgres.js asks for the name that the certificate must have.
    return Object.assign(socket, "host" in place ? place : {});
  }

  /** By the bytes, since TLS lies over the socket. */
  function look(): void {
    const now = performance.now();
    for (const [socket, watched] of sockets) {
      if (socket.destroyed) sockets.delete(socket);
      const heard = socket.bytesRead !== watched.read;
      if (heard || socket.bytesWritten === watched.written) {
        watched.read = socket.bytesRead;
        watched.written = socket.bytesWritten;
        watched.quietSinceMs = now;
      } else if (options.silenceMs > 0 && now - watched.quietSinceMs > options.silenceMs) {
        socket.destroy(connectionError("CONNECTION_SILENT", "the database says nothing any more"));
      }
    }
    if (sockets.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return {
    async dial() {
      try {
        if (closed) throw connectionError("CONNECTION_ENDED", "the client was ended");
        const socket = await within(options.connectTimeoutMs, open());
        if (closed) socket.destroy();
        return socket;
      } catch (error) {
        return failing(error);
      }
    },
    close() {
      closed = true;
      for (const socket of sockets.keys()) socket.destroy();
    },
  };
}

/** An error with a code, as those of the network have. */
export function connectionError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** A socket that fails once postgres.js has put its first bytes on the way: what it still held back would block it for good. */
function failing(error: unknown): net.Socket {
  const socket = new net.Socket();
  socket.on("error", () => {});
  const failure =
    error instanceof Error && error.name === "AbortError"
      ? connectionError("CONNECT_TIMEOUT", "the database host does not answer")
      : (error as Error);
  setImmediate(() => setImmediate(() => socket.destroy(failure)));
  return socket;
}
