import { once } from "node:events";
import { type IncomingMessage, type RequestListener, Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { createServer as createTlsServer, TLSSocket } from "node:tls";
import type { Http1Connection, Http1Handler, Http1Request } from "./http1/connection.ts";
import { createHttp1Connections, type Http1Connections } from "./http1/connections.ts";
import type { Http2Stream } from "./http2/stream.ts";
import { createHttp2Sessions, type Http2Sessions } from "./http2-sessions.ts";
import type { ListenerOptions } from "./listener-options.ts";
import { continueOnRead, discardRest, guardUpload, isUpload } from "./request-body.ts";
import { sniff } from "./sniff.ts";

/** Who sees requests before the handler does, and takes those of its kind. */
export interface UnaryEntrance {
  /**
   * Takes an HTTP/2 stream, or answers false: then the handler has it. `passOn` gives a
   * stream that was taken to the handler all the same, unanswered.
   */
  takeStream(stream: Http2Stream, passOn: () => void): boolean;
  /**
   * Takes an HTTP/1.1 request of the usual form, or answers undefined. `passOn` is told what node:http has
   * made of it, before the handler has it.
   */
  takeHttp1(
    request: Http1Request,
    connection: Http1Connection,
    passOn: (onRequest: (req: IncomingMessage) => void) => void,
  ): Http1Handler | undefined;
  /** The same of an HTTP/1.1 request that node:http has read. */
  takeRequest(req: IncomingMessage, res: ServerResponse, passOn: () => void): boolean;
}

/** One port that speaks HTTP/1.1, HTTP/2 with prior knowledge and, with a certificate, both over TLS. */
export interface Listener {
  /** What Fastify's `serverFactory` returns. Its `close` drains as `Listener.close` does. */
  readonly server: Server;
  /** Open TCP connections. */
  readonly connections: number;
  /** Open HTTP/1.1 connections, over TLS or not. */
  readonly http1Connections: number;
  /** Open HTTP/2 sessions. */
  readonly sessions: number;
  /** Lets this one see requests first. */
  takeUnary(entrance: UnaryEntrance): void;
  /** Takes a connection that was accepted elsewhere and of which nothing has been read. After `close` it is cut. */
  accept(socket: Socket): void;
  /**
   * Stops accepting, sends GOAWAY to HTTP/2 sessions, closes idle HTTP/1.1 connections and lets running
   * requests finish. Resolves when the last connection is gone: that may be never, see `destroy`. May be
   * called more than once.
   */
  close(): Promise<void>;
  /** Cuts every connection that is still open. It does not stop accepting: call `close` first. */
  destroy(): void;
}

const LINGER_MS = 1_000;
const TCP_KEEPALIVE_MS = 60_000;

/**
 * Creates a listener for `handler`, which gets HTTP/2 requests through Node's compatibility API, and requests
 * with `Expect: 100-continue` before the client was told to go on: `100 Continue` is sent when it first reads
 * the body. An address in use surfaces as the server's `error` event.
 */
export function createListener(options: ListenerOptions, handler: RequestListener): Listener {
  const server = new OnePortServer(options, handler);
  return {
    server,
    get connections() {
      return server.sockets.size;
    },
    get http1Connections() {
      return server.http1Connections;
    },
    get sessions() {
      return server.sessions.size;
    },
    takeUnary: (entrance) => {
      server.unary = entrance;
    },
    accept: (socket) => server.acceptElsewhere(socket),
    async close() {
      // An error can only say that it is closed already; the call comes when all has ended nonetheless.
      await new Promise((resolve) => server.close(resolve));
      // The server counts a socket as gone a moment before it is.
      await Promise.all([...server.sockets].map((socket) => once(socket, "close")));
    },
    destroy: () => server.closeAllConnections(),
  };
}

/**
 * The HTTP/1.1 server owns the port, so that its own timeouts, `clientError` and closing of idle connections
 * work as Fastify expects of them, and passes on what is not HTTP/1.1.
 */
class OnePortServer extends Server {
  readonly sockets = new Set<Socket>();
  readonly sessions: Http2Sessions;
  unary: UnaryEntrance | undefined;
  readonly #undecided = new Set<Socket>();
  /** HTTP/1.1 connections, each with the response to its latest request. */
  readonly #http1 = new Map<Socket, ServerResponse | undefined>();
  readonly #ownHttp1: Http1Connections;
  /** What is to be told of the first request that node:http reads of a connection. */
  readonly #passedOn = new WeakMap<Socket, (req: IncomingMessage) => void>();
  readonly #tls;
  readonly #options: ListenerOptions;
  readonly #handler: RequestListener;
  readonly #serveHttp1: (socket: Socket) => void;
  #draining = false;

  constructor(options: ListenerOptions, handler: RequestListener) {
    super({
      maxHeaderSize: options.maxHeaderBytes,
      headersTimeout: options.headersTimeoutMs,
      keepAliveTimeout: options.keepAliveTimeoutMs,
      requestTimeout: options.requestTimeoutMs,
      connectionsCheckingInterval: checkingInterval(options),
      requireHostHeader: true,
      insecureHTTPParser: false,
      noDelay: true,
      // A peer that vanished without a word is noticed although it owes no bytes.
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_MS,
    });
    this.#options = options;
    this.#handler = handler;
    if (options.maxConnections) this.maxConnections = options.maxConnections;

    const [serveHttp1] = this.listeners("connection") as ((socket: Socket) => void)[];
    if (serveHttp1 === undefined) throw new Error("node:http no longer listens to its own connections");
    this.#serveHttp1 = serveHttp1;
    this.removeAllListeners("connection");
    this.on("connection", (socket: Socket) => this.#accept(socket));
    this.on("request", (req, res) => this.#onHttp1Request(req, res));
    this.on("checkContinue", (req, res) => {
      continueOnRead(req, res);
      this.#onHttp1Request(req, res);
    });
    // Before it listens, an error (address in use) belongs to whoever called listen().
    this.once("listening", () => this.on("error", (error) => options.onAcceptError?.(error)));

    this.#ownHttp1 = this.#createOwnHttp1();
    this.sessions = createHttp2Sessions(
      options,
      handler,
      (stream, passOn) => this.unary?.takeStream(stream, passOn) === true,
    );
    this.#tls = options.tls && this.#createTls(options.tls);
  }

  get http1Connections(): number {
    return this.#http1.size + this.#ownHttp1.size;
  }

  override close(callback?: (error?: Error) => void): this {
    super.close(callback);
    this.#drain();
    return this;
  }

  override closeAllConnections(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** As if it had been accepted here: the server sets up only what it accepts itself. */
  acceptElsewhere(socket: Socket): void {
    if (this.#draining) {
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
    // HTTP/1.1 clients may end their side before they are answered.
    socket.allowHalfOpen = true;
    this.emit("connection", socket);
  }

  #createTls(credentials: { cert: string | Buffer; key: string | Buffer }) {
    const server = createTlsServer({
      ...credentials,
      ALPNProtocols: ["h2", "http/1.1"],
      handshakeTimeout: this.#options.sniffTimeoutMs,
    });
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    server.on("secureConnection", (socket: TLSSocket) => {
      this.#endWithPeer(socket);
      if (this.#draining) socket.destroy();
      else if (socket.alpnProtocol === "h2") this.sessions.serve(socket);
      else this.#startHttp1(socket);
    });
    return server;
  }

  #accept(socket: Socket): void {
    this.sockets.add(socket);
    this.#undecided.add(socket);
    socket.once("close", () => {
      this.sockets.delete(socket);
      this.#undecided.delete(socket);
    });
    // Whoever takes the socket over deals with its errors; between owners they must not end the process.
    socket.on("error", () => {});
    this.#endWithPeer(socket);
    sniff(socket, this.#options.sniffTimeoutMs, (protocol) => {
      this.#undecided.delete(socket);
      if (protocol === "http1") return this.#startHttp1(socket);
      // A session does not end by itself when its client closes and the socket may stay half open.
      socket.allowHalfOpen = false;
      if (protocol === "http2") this.sessions.serve(socket);
      else if (this.#tls !== undefined) this.#tls.emit("connection", socket);
      else socket.destroy();
    });
  }

  #startHttp1(socket: Socket): void {
    if (this.unary === undefined || this.#options.nodeHttp || this.#draining) this.#startNodeHttp1(socket);
    else this.#ownHttp1.serve(socket);
  }

  #createOwnHttp1(): Http1Connections {
    const options = this.#options;
    return createHttp1Connections({
      ...options,
      // A program may have set them since.
      headersTimeoutMs: () => this.headersTimeout,
      keepAliveTimeoutMs: () => this.keepAliveTimeout,
      lingerMs: options.lingerMs ?? LINGER_MS,
      take: (request, connection) =>
        this.unary?.takeHttp1(request, connection, (onRequest) => {
          this.#passedOn.set(connection.socket, onRequest);
          connection.handOver();
        }),
      onError: (error) => options.onConnectionError?.(error),
      onLate: (socket) => this.#refuse(socket, "ERR_HTTP_REQUEST_TIMEOUT"),
      onCut: (socket) => this.#refuse(socket, "HPE_INVALID_EOF_STATE"),
      handOver: (socket, unread) => {
        socket.pause();
        socket.unshift(unread);
        this.#startNodeHttp1(socket);
        socket.resume();
      },
    });
  }

  /** As node:http does with the connections that it reads itself. */
  #refuse(socket: Socket, code: string): void {
    const error = Object.assign(new Error("no request has come"), { code });
    if (!this.emit("clientError", error, socket)) socket.destroy();
  }

  #startNodeHttp1(socket: Socket): void {
    this.#http1.set(socket, undefined);
    socket.once("close", () => this.#http1.delete(socket));
    // One that was handed over while it was not yet asked for anything: nobody counts its time any more.
    if (this.#draining) this.#endUnlessAsked(socket, undefined);
    this.#serveHttp1.call(this, socket);
    // With a listener for its data node:http reads the socket, not the TLS below it. That goes on to bring what it
    // has read, although node has paused it for an answer that is still on its way, and is then told "HPE_PAUSED".
    if (socket instanceof TLSSocket) socket.on("data", ignore);
  }

  #onHttp1Request(req: IncomingMessage, res: ServerResponse): void {
    this.#http1.set(req.socket, res);
    // A connection that ends with requests on it tells each of them, at a time when its reader may have gone.
    req.on("error", ignore);
    res.on("error", ignore);
    if (this.#draining) res.setHeader("connection", "close");
    const passOn = () => {
      if (isUpload(req.headers)) guardUpload(req, res);
      else discardRest(req, res);
      this.#handler(req, res);
    };
    const passedOn = this.#passedOn.get(req.socket);
    if (passedOn !== undefined) {
      this.#passedOn.delete(req.socket);
      passedOn(req);
      passOn();
    } else if (!this.unary?.takeRequest(req, res, passOn)) passOn();
  }

  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    for (const socket of this.#undecided) socket.destroy();
    this.sessions.drain();
    this.#ownHttp1.drain();
    for (const [socket, res] of this.#http1) {
      if (res === undefined || res.writableFinished) this.#endUnlessAsked(socket, res);
      else if (!res.headersSent) res.setHeader("connection", "close");
      else {
        // It promised to keep the connection; a request that was pipelined meanwhile is still answered.
        res.once("finish", () => this.#http1.get(socket) === res && socket.destroySoon());
      }
    }
  }

  /** Destroys a socket that has ended its side when the peer does not end the other in time. */
  #endWithPeer(socket: Socket): void {
    socket.once("finish", () => {
      const timer = setTimeout(() => socket.destroy(), this.#options.lingerMs ?? LINGER_MS);
      socket.once("close", () => clearTimeout(timer));
    });
  }

  /** `super.close` ended what is idle; what is left may be in the middle of a request's headers. */
  #endUnlessAsked(socket: Socket, latest: ServerResponse | undefined): void {
    const end = () => this.#http1.get(socket) === latest && socket.destroy();
    const timer = setTimeout(end, this.#options.lingerMs ?? LINGER_MS);
    socket.once("close", () => clearTimeout(timer));
  }
}

function ignore(): void {}

/** Timeouts are looked for at this interval; node's own 30 s would round a short one up to it. */
function checkingInterval({ headersTimeoutMs, requestTimeoutMs }: ListenerOptions): number {
  const shortest = Math.min(headersTimeoutMs || Infinity, requestTimeoutMs || Infinity);
  return Math.min(5_000, Math.max(50, shortest / 2));
}
