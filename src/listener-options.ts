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
  /** Told of faults of whoever serves a request, which have ended a connection. Default: they are dropped. */
  onConnectionError?: (error: unknown) => void;
}
