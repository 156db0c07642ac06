/** Notices that a connection has been idle for too long. */
import type { Socket } from "node:net";

export class IdleWatch {
  readonly #socket: Socket;
  readonly #idleMs: number;
  readonly #onIdle: () => void;
  #lastByteMs = performance.now();
  #written: number;
  #timer: NodeJS.Timeout | undefined;

  /** Milliseconds without a byte, either way; 0: it watches nothing. */
  constructor(socket: Socket, idleMs: number, onIdle: () => void) {
    this.#socket = socket;
    this.#idleMs = idleMs;
    this.#onIdle = onIdle;
    this.#written = socket.bytesWritten;
    if (idleMs > 0) this.#lookIn(idleMs);
  }

  /** Bytes have come. */
  heard(): void {
    this.#lastByteMs = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #lookIn(ms: number): void {
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #look(): void {
    const { bytesWritten } = this.#socket;
    if (bytesWritten !== this.#written) this.heard();
    this.#written = bytesWritten;
    const leftMs = this.#lastByteMs + this.#idleMs - performance.now();
    if (leftMs > 0) this.#lookIn(leftMs);
    else this.#onIdle();
  }
}
