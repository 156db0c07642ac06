import { once } from "node:events";
import { type IncomingMessage, type RequestListener, Server, type ServerResponse } from "node:http";
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import type { Http1Connection, Http1Handler, Http1Request } from "./http1/connection.ts";
import { createHttp1Connections, type Http1Connections } from "./http1/connections.ts";
import { Http2Connection } from "./http2/connection.ts";
import { NodeStream } from "./http2/node-stream.ts";
import type { Http2Stream } from "./http2/stream.ts";
import { continueOnRead, discardRest, dropUnread, guardUpload, isUpload } from "./request-body.ts";
import { sniff } from "./sniff.ts";
import { inTurns } from "./turns.ts";

/** How a port is listened to. Every limit is per connection unless it says otherwise. */
export interface ListenerOptions {
  /** PEM certificate chain and key: the port then speaks TLS (ALPN h2, http/1.1) beside plain text. */
  tls?: { cert: string | Buffer; key: string | Buffer };
  /** Bytes of headers that a request may carry: above, HTTP/1.1 answers 431, HTTP/2 resets the stream. */
  maxHeaderBytes: number;
  /** Streams that an HTTP/2 client may have open at once; further ones are refused (REFUSED_STREAM). */
  maxStreamsPerConnection: number;
  /** Streams that an HTTP/2 client may reset at once before its connection is ended with GOAWAY. */
  streamResetBurst: number;
  /** Resets a second by which the burst is replenished. */
  streamResetRate: number;
  /** Milliseconds from accept to the bytes that tell the protocol, and again for the TLS handshake. */
  sniffTimeoutMs: number;
  /** Milliseconds for an HTTP/1.1 request's headers to arrive, else 408; 0: no limit. */
  headersTimeoutMs: number;
  /** Milliseconds that an HTTP/1.1 connection may rest between two requests. Node adds a second of grace. */
  keepAliveTimeoutMs: number;
  /** Milliseconds for a whole HTTP/1.1 request to arrive, at least `headersTimeoutMs`; 0: no limit. */
  requestTimeoutMs: number;
  /**
   * Milliseconds without a byte after which an HTTP/2 connection gets GOAWAY; streams that are open go on.
   * Default 300,000; 0: never.
   */
  sessionIdleTimeoutMs?: number;
  /** Connections over all protocols, above which new ones are closed at once. Default 0: no limit. */
  maxConnections?: number;
  /** Milliseconds that a peer has to close once this side has said all it will say. Default 1,000. */
  lingerMs?: number;
  /**
   * HTTP by node:http and node:http2 alone, and not by this server's own code, which costs far less and gives
   * no streams and requests of Node's to `takeStream` and `takeHttp1`. Default false.
   */
  nodeHttp?: boolean;
  /** Told of failures to accept a connection (such as EMFILE). Default: they are dropped. */
  onAcceptError?: (error: Error) => void;
  /** Told of faults of whoever serves a request, which have ended an HTTP/2 connection. Default: they are dropped. */
  onConnectionError?: (error: unknown) => void;
}

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
const SESSION_IDLE_TIMEOUT_MS = 300_000;

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
  readonly sessions = new Set<Pick<ServerHttp2Session, "close">>();
  unary: UnaryEntrance | undefined;
  readonly #undecided = new Set<Socket>();
  /** HTTP/1.1 connections, each with the response to its latest request. */
  readonly #http1 = new Map<Socket, ServerResponse | undefined>();
  readonly #ownHttp1: Http1Connections;
  /** What is to be told of the first request that node:http reads of a connection. */
  readonly #passedOn = new WeakMap<Socket, (req: IncomingMessage) => void>();
  readonly #serveHttp2: (socket: Socket) => void;
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
    this.#serveHttp2 = options.nodeHttp ? this.#nodeHttp2() : this.#ownHttp2();
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

  /** Makes the compatibility API's objects, which stand in for node:http's, as under Fastify with http2: true. */
  #compatible() {
    const handle = this.#handler as unknown as (req: Http2ServerRequest, res: Http2ServerResponse) => void;
    // A server that has no connections of its own, for the streams that are passed on to it.
    const compatible = createHttp2Server();
    compatible.on("request", handle);
    compatible.on("checkContinue", (req, res) => {
      continueOnRead(req.stream, res);
      handle(req, res);
    });
    return compatible;
  }

  #ownHttp2() {
    const compatible = this.#compatible();
    const { maxHeaderBytes, maxStreamsPerConnection, streamResetBurst, streamResetRate } = this.#options;
    const options = {
      maxHeaderBytes,
      maxStreams: maxStreamsPerConnection,
      resetBurst: streamResetBurst,
      resetsPerS: streamResetRate,
      idleMs: this.#options.sessionIdleTimeoutMs ?? SESSION_IDLE_TIMEOUT_MS,
      onStream: (stream: Http2Stream) => {
        const passOn = () => {
          stream.dropsRest = true;
          const nodeStream = new NodeStream(stream);
          const { headers, rawHeaders } = stream.block;
          // Copies: the same ones may come with the next request.
          compatible.emit("stream", nodeStream, Object.assign(Object.create(null), headers), 0, [
            ...rawHeaders,
          ]);
        };
        if (!this.unary?.takeStream(stream, passOn)) passOn();
      },
      onError: (error: unknown) => this.#options.onConnectionError?.(error),
    };
    return (socket: Socket) => {
      const connection = new Http2Connection(socket, options);
      this.sessions.add(connection);
      socket.once("close", () => this.sessions.delete(connection));
    };
  }

  #nodeHttp2() {
    const compatible = this.#compatible();
    const { maxHeaderBytes, maxStreamsPerConnection, streamResetBurst, streamResetRate } = this.#options;
    const idleMs = this.#options.sessionIdleTimeoutMs ?? SESSION_IDLE_TIMEOUT_MS;
    const server = createHttp2Server({
      settings: { maxConcurrentStreams: maxStreamsPerConnection, maxHeaderListSize: maxHeaderBytes },
      streamResetBurst,
      streamResetRate,
    });
    server.on("session", (session) => {
      this.sessions.add(session);
      session.once("close", () => this.sessions.delete(session));
      if (idleMs > 0) session.setTimeout(idleMs, () => session.close());
    });
    // A connection that breaks tells each of its streams, those that wait for their turn too; so does `close`.
    server.on("stream", (stream) => stream.on("error", ignore));
    server.on(
      "stream",
      inTurns((stream, headers, flags, rawHeaders) => {
        stream.once("finish", dropUnread);
        compatible.emit("stream", stream, headers, flags, rawHeaders);
      }),
    );
    return (socket: Socket) => void server.emit("connection", socket);
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
      else if (socket.alpnProtocol === "h2") this.#serveHttp2(socket);
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
      if (protocol === "http2") this.#serveHttp2(socket);
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
      lingerMs: options.lingerMs ?? LINGER_MS,
      take: (request, connection) =>
        this.unary?.takeHttp1(request, connection, (onRequest) => {
          this.#passedOn.set(connection.socket, onRequest);
          connection.handOver();
        }),
      // As node:http does with those that it reads itself.
      onLate: (socket) => {
        if (!this.emit("clientError", requestTimeout(), socket)) socket.destroy();
      },
      handOver: (socket, unread) => {
        socket.pause();
        socket.unshift(unread);
        this.#startNodeHttp1(socket);
        socket.resume();
      },
    });
  }

  #startNodeHttp1(socket: Socket): void {
    this.#http1.set(socket, undefined);
    socket.once("close", () => this.#http1.delete(socket));
    this.#serveHttp1.call(this, socket);
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
    for (const session of this.sessions) session.close();
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

/** What node:http tells of a client that has not asked in time. */
function requestTimeout(): Error {
  return Object.assign(new Error("Request timeout"), { code: "ERR_HTTP_REQUEST_TIMEOUT" });
}

function ignore(): void {}

/** Timeouts are looked for at this interval; node's own 30 s would round a short one up to it. */
function checkingInterval({ headersTimeoutMs, requestTimeoutMs }: ListenerOptions): number {
  const shortest = Math.min(headersTimeoutMs || Infinity, requestTimeoutMs || Infinity);
  return Math.min(5_000, Math.max(50, shortest / 2));
}
