/** What a connection writes: gathered over a turn of the event loop, and written in one piece. */
import type { Duplex } from "node:stream";
import { frameHeadBytes, maxFrameBytes } from "./wire.ts";

/** The largest frame, and some more beside it. */
const slabBytes = 32 * 1024;
const mostFree = 64;
/** Slabs are written over again once their bytes have left: most have when `write` returns. */
const free: Buffer[] = [];

/** Outputs that have something to write in this turn. */
let due: Output[] = [];

function flushDue(): void {
  const outputs = due;
  due = [];
  for (const output of outputs) output.flush();
}

function giveBack(slab: Buffer): void {
  if (free.length < mostFree) free.push(slab);
}

export class Output {
  readonly #socket: Duplex;
  #slab: Buffer | undefined;
  #at = 0;
  #isDue = false;
  /** Something that was written has not left yet. */
  #isWriting = false;

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  /** The peer does not take what was written: no more of answers' bodies is, until the socket drains. */
  get isFull(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Begins a frame whose payload `write` is to follow with. */
  frame(payloadBytes: number, type: number, flags: number, streamId: number): void {
    const slab = this.reserve(frameHeadBytes);
    let at = this.#at;
    slab[at++] = payloadBytes >> 16;
    slab[at++] = payloadBytes >> 8;
    slab[at++] = payloadBytes;
    slab[at++] = type;
    slab[at++] = flags;
    slab[at++] = streamId >>> 24;
    slab[at++] = streamId >> 16;
    slab[at++] = streamId >> 8;
    slab[at++] = streamId;
    this.#at = at;
  }

  uint32(value: number): void {
    const slab = this.reserve(4);
    this.#at = slab.writeUInt32BE(value, this.#at);
  }

  write(bytes: Uint8Array, from = 0, to = bytes.byteLength): void {
    const slab = this.reserve(to - from);
    if (to - from < 64) for (let i = from; i < to; i++) slab[this.#at++] = bytes[i] as number;
    else {
      slab.set(from === 0 && to === bytes.byteLength ? bytes : bytes.subarray(from, to), this.#at);
      this.#at += to - from;
    }
  }

  /** Bytes for up to a frame's payload in one piece; what is written there is told to `advance`. */
  reserve(bytes: number): Buffer {
    if (bytes > maxFrameBytes) throw new RangeError("no frame is that long");
    if (this.#slab !== undefined && this.#at + bytes > slabBytes) this.#write();
    this.#slab ??= free.pop() ?? Buffer.allocUnsafeSlow(slabBytes);
    if (!this.#isDue) {
      this.#isDue = true;
      if (due.length === 0) setImmediate(flushDue);
      due.push(this);
    }
    return this.#slab;
  }

  get at(): number {
    return this.#at;
  }

  advance(to: number): void {
    this.#at = to;
  }

  /**
   * Writes what there is. While something is still on its way, and there is room for more, it waits:
   * a slab is far more than most writes take, and a peer that reads nothing must not hold many.
   */
  flush(isLast = false): void {
    this.#isDue = false;
    if (this.#isWriting && !isLast && this.#at < slabBytes / 2) return;
    this.#write();
  }

  #write(): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    const written = this.#at;
    this.#slab = undefined;
    this.#at = 0;
    if (written === 0 || !this.#socket.writable) {
      giveBack(slab);
      return;
    }
    this.#isWriting = true;
    this.#socket.write(slab.subarray(0, written), () => {
      giveBack(slab);
      this.#isWriting = this.#socket.writableLength > 0;
      if (!this.#isWriting) this.#write();
    });
  }
}
