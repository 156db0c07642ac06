/** A TCP connection that HTTP/1.1 is written on byte by byte, and the server's end of it. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Side } from "../equality/pair.ts";

/** The sockets that a server has accepted, by the port that they came from. */
export class Accepted {
  readonly #byPort = new Map<number, Socket>();

  constructor({ server }: Side) {
    server.server.app.server.on("connection", (socket: Socket) => {
      if (socket.remotePort !== undefined) this.#byPort.set(socket.remotePort, socket);
      readThroughStream(socket);
    });
  }

  of(client: Socket): Socket | undefined {
    return this.#byPort.get(client.localPort ?? -1);
  }
}

/**
 * Node's parser reads the first bytes of a connection as a stream's and takes over its handle for all that follow. By
 * the latter way a handler runs between the head and the body of one packet, so that what it answers before the
 * body differs. One that was handed over has its first bytes later: both sides are held to the former way.
 */
function readThroughStream(socket: Socket): void {
  const { _handle: handle } = socket as unknown as { _handle: { _consumed: boolean } };
  handle._consumed = true;
}

/** Turns without progress after which a server is taken not to read on: it waits for something else first. */
const patience = 60;

export class RawConnection {
  readonly socket: Socket;
  readonly #accepted: Accepted;
  readonly #received: Buffer[] = [];
  #bytes = 0;
  /** The server has ended its side, or reset the connection: which of them, is chance where bytes were unread. */
  closed = false;

  constructor(port: number, accepted: Accepted) {
    this.#accepted = accepted;
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    this.socket.setNoDelay(true);
    this.socket.on("data", (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#bytes += chunk.length;
    });
    for (const event of ["end", "close", "error"]) {
      this.socket.on(event, () => {
        this.closed = true;
      });
    }
  }

  /** The server's end. */
  get peer(): Socket | undefined {
    return this.#accepted.of(this.socket);
  }

  get received(): Buffer {
    return Buffer.concat(this.#received);
  }

  /** Grows with whatever happens on it. */
  get activity(): string {
    const { peer } = this;
    return [this.#bytes, this.closed, this.socket.bytesWritten, peer?.bytesRead, peer?.bytesWritten].join();
  }

  /** Writes, and waits until the server has read it, so that what comes next is another read of the server's. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.closed || this.socket.destroyed) return;
    this.socket.write(bytes);
    await this.hasRead();
  }

  async hasRead(): Promise<void> {
    let before = "";
    for (let still = 0; still < patience; still++) {
      const { peer } = this;
      if (this.closed || peer?.destroyed) return;
      // A server that has taken no connection yet is waited for.
      if (peer === undefined) still = 0;
      else if (peer.bytesRead >= this.socket.bytesWritten && this.socket.writableLength === 0) return;
      if (this.activity !== before) still = 0;
      before = this.activity;
      await sleep(1);
    }
  }
}
