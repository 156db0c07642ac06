/** The sockets that postgres.js is given: each to the host that is asked for at that moment, and cut where nothing more comes. */
import { once } from "node:events";
import net from "node:net";
import { connectionError } from "./connection-error.ts";
import { prepareForDriver } from "./driver-socket.ts";
import { secure, type TlsSettings } from "./tls.ts";

/** Where a server listens. */
export type Place = { readonly host: string; readonly port: number } | { readonly path: string };

export interface DialerOptions {
  /** Asked for each connection anew: after a fail-over it is another. */
  find: () => Promise<Place>;
  /** Of connections to hosts; those to a unix socket have none. */
  tls: TlsSettings;
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
  /** Sockets that are open, or being opened. */
  readonly size: number;
  /** Cuts what is open, and what is still being opened. */
  close(): void;
}

interface Watched {
  readonly place: string;
  readonly cut: () => void;
  readonly silenceMs: number;
  read: number;
  /** What had come when something was last sent; -1: nothing has been sent yet. */
  readWhenSent: number;
  /** When something came for the last time. */
  heardMs: number;
  /** When everything that was sent had been answered for the last time. */
  quietSinceMs: number;
}

const lookMs = 100;
const ignore = (): void => {};
/** The sockets of this whole process: what one of them finds out about a host concerns the others. */
const watchedSockets = new Map<net.Socket, Watched>();
let timer: NodeJS.Timeout | undefined;

/** Looks at the bytes that came and went. */
function look(): void {
  const now = performance.now();
  for (const [socket, watched] of watchedSockets) {
    const heard = socket.bytesRead !== watched.read;
    if (heard) watched.heardMs = now;
    if (socket.destroyed) watchedSockets.delete(socket);
    else if (heard || isIdle(socket, watched)) {
      watched.read = socket.bytesRead;
      watched.quietSinceMs = now;
    } else if (watched.silenceMs > 0 && now - watched.quietSinceMs > watched.silenceMs) {
      watched.cut();
      cutIdle(watched);
    }
  }
  if (watchedSockets.size > 0) return;
  clearInterval(timer);
  timer = undefined;
}

/** Those to the same host of which nothing has come since either: each would fail the next statement only to be found out. */
function cutIdle({ place, quietSinceMs }: Watched): void {
  for (const [socket, watched] of watchedSockets) {
    if (watched.place === place && watched.heardMs < quietSinceMs && isIdle(socket, watched)) watched.cut();
  }
}

/**
 * Notes each write as it is made. The bytes of two looks do not tell: what was sent right after an
 * answer, between the same two, is not what was answered.
 */
function noteSent(socket: net.Socket, watched: Watched): void {
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  Object.assign(socket, {
    write(...args: unknown[]) {
      watched.readWhenSent = socket.bytesRead;
      return write(...args);
    },
  });
}

/** Whether something has come since something was last sent. */
function isIdle(socket: net.Socket, watched: Watched): boolean {
  return socket.bytesRead > watched.readWhenSent;
}

export function createDialer(options: DialerOptions): Dialer {
  const sockets = new Set<net.Socket>();
  const closing = new AbortController();

  async function open(signal: AbortSignal): Promise<net.Socket> {
    const place = await unlessAborted(signal, options.find());
    const socket = await secured(place, await connected(place, signal), signal);
    const now = performance.now();
    const watched: Watched = {
      place: JSON.stringify(place),
      cut: () => cut(),
      silenceMs: options.silenceMs,
      read: socket.bytesRead,
      readWhenSent: -1,
      heardMs: now,
      quietSinceMs: now,
    };
    noteSent(socket, watched);
    const cut = prepareForDriver(socket);
    watchedSockets.set(socket, watched);
    timer ??= setInterval(look, lookMs).unref();
    return socket;
  }

  async function connected(place: Place, signal: AbortSignal): Promise<net.Socket> {
    const socket = net.connect({ ...place, noDelay: true });
    try {
      await once(keep(socket), "connect", { signal });
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return socket;
  }

  async function secured(place: Place, socket: net.Socket, signal: AbortSignal): Promise<net.Socket> {
    if (!("host" in place)) return socket;
    try {
      const secured = await secure(socket, place.host, options.tls, signal);
      if (secured !== socket) sockets.delete(socket);
      return keep(secured);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  function keep(socket: net.Socket): net.Socket {
    // Until postgres.js listens itself, and after it has stopped to.
    socket.on("error", ignore);
    for (const old of sockets) if (old.destroyed) sockets.delete(old);
    sockets.add(socket);
    return socket;
  }

  return {
    get size() {
      return [...sockets].filter((socket) => !socket.destroyed).length;
    },
    async dial() {
      const late = AbortSignal.timeout(options.connectTimeoutMs);
      try {
        return await open(AbortSignal.any([closing.signal, late]));
      } catch (error) {
        if (closing.signal.aborted)
          return failing(connectionError("CONNECTION_ENDED", "the client was ended"));
        if (!late.aborted) return failing(error);
        return failing(connectionError("CONNECT_TIMEOUT", "the database host does not answer"));
      }
    },
    close() {
      closing.abort();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Settles as the promise does, or rejects once it is too late: what it still brings is nobody's. */
async function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
    promise.catch(ignore);
  }
}

/** A socket that fails once postgres.js has put its first bytes on the way: what it still held back would block it for good. */
function failing(error: unknown): net.Socket {
  // What is written must not fail first, with an error that says less.
  const socket = Object.assign(new net.Socket(), { write: () => true });
  socket.on("error", ignore);
  setImmediate(() => setImmediate(() => socket.destroy(error as Error)));
  return socket;
}
