/** Request bodies that nobody reads: how a client is kept from sending them, and a server from taking them in. */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { constants, type Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";

// An unread body up to this size is cheaper to read than a connection to open.
const DISCARD_BYTES = 64 * 1024;
const DISCARD_MS = 5_000;
const END_STREAM_POLL_MS = 20; // no event tells that a frame was sent

/** Sends `100 Continue` when the body is first read, so that a handler may refuse before it is sent. */
export function continueOnRead(body: Readable, res: ServerResponse | Http2ServerResponse): void {
  const read = body._read;
  body._read = (size) => {
    body._read = read;
    if (!res.headersSent) res.writeContinue();
    body._read(size);
  };
}

/** Whether a request announces a body that is not worth reading when nobody wants it. */
export function isUpload(headers: IncomingHttpHeaders): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > DISCARD_BYTES;
}

/**
 * Keeps node from reading what is left of a body after its response, and from destroying the socket under a
 * client that is still sending: that resets the connection, and the response is lost on the way. A client that
 * has not sent everything when it is answered is told that this is its connection's last response: having sent
 * the rest meanwhile, it would ask again on a connection that ends.
 */
export function guardUpload(req: IncomingMessage, res: ServerResponse): void {
  const { socket } = req; // node takes it off the request when a reader stops half-way
  const writeHead = res.writeHead as (...args: unknown[]) => ServerResponse;
  res.writeHead = (...args: unknown[]) => {
    if (!req.complete && !res.headersSent) res.setHeader("connection", "close");
    return writeHead.apply(res, args);
  };
  res.prependOnceListener("finish", () => {
    if (!req.complete && !socket.destroyed) abandonUpload(req, socket);
  });
}

/** Lets go of the connection whose last body was read on. */
const letGo = new WeakMap<Socket, () => void>();

/**
 * Reads on what little is left of a body after its response, for so long; then ends the connection. Nobody would
 * notice that its client has gone: node reads nothing while a body waits for a reader that has left.
 */
export function discardRest(req: IncomingMessage, res: ServerResponse): void {
  const { socket } = req;
  res.once("finish", () => {
    if (req.complete || socket.destroyed) return;
    const timer = setTimeout(() => {
      stop();
      if (!req.complete) socket.destroy();
    }, DISCARD_MS);
    // A reader that stopped half-way has destroyed the body: node pauses the connection at each piece that still comes.
    const goOn = () => (req.complete ? stop() : socket.resume());
    const stop = () => {
      clearTimeout(timer);
      socket.off("close", stop).off("pause", goOn);
    };
    // The connection has many more requests to come, each of which may do the same.
    letGo.get(socket)?.();
    letGo.set(socket, stop);
    socket.once("close", stop).on("pause", goOn);
    req.once("end", stop);
    if (req.destroyed) socket.resume();
    else req.resume();
  });
}

/** Ends a connection in the middle of a request: nothing more reaches the parser, little more is read. */
function abandonUpload(req: IncomingMessage, socket: Socket): void {
  // Node's own listeners: they feed the parser, and report an end within a body as the client's error.
  socket.removeAllListeners("data").removeAllListeners("end");
  const limit = socket.bytesRead + DISCARD_BYTES;
  socket.on("data", () => socket.bytesRead > limit && socket.pause());
  socket.on("end", () => socket.destroy());
  socket.once("close", () => req.destroy());
  // node destroys the socket as soon as the last response is out; the listener gives the client `lingerMs`.
  socket.destroySoon = () => socket.end();
  socket.end();
  socket.resume();
}

/**
 * Ends what is left of an HTTP/2 request after its response: a client that still sends is stopped, and bytes
 * that nobody read are dropped, without which node keeps the stream, and a session that is to close, for ever.
 */
export function dropUnread(this: ServerHttp2Stream): void {
  if (this.destroyed || this.readableEnded) return;
  if (!this.closed && this.state.remoteClose !== 1) {
    // A reset overtakes what is queued, and `finish` comes before END_STREAM or the trailers have left.
    if (this.state.localClose !== 1) {
      setTimeout(() => dropUnread.call(this), END_STREAM_POLL_MS);
      return;
    }
    this.close(constants.NGHTTP2_NO_ERROR);
  }
  this.removeAllListeners("data").resume();
}
