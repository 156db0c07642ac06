/**
 * HTTP/1.1 for requests of the most usual form that come in one go: those of nearly all
 * RPCs. As soon as anything else comes, the connection is node:http's for the rest of its
 * life, with all that was not answered yet.
 *
 * Written here since node:http makes two Node streams for a request, which costs as much
 * as all else that a unary RPC needs. What is odd is not judged here, so that there is one
 * reading of it, and that is Node's.
 */
import type { Socket } from "node:net";
import type { RunningList, Timed } from "../running-list.ts";
import { type Http1Head, headEnd, readHead } from "./request-head.ts";

export interface Http1Request {
  readonly head: Http1Head;
  readonly body: Buffer;
  /** False: the client has ended its side before all of the body had come. */
  readonly isWhole: boolean;
}

/** Who answers a request. */
export interface Http1Handler {
  /** The answer has left for the client, or never will. */
  onClosed(): void;
}

/** What all connections of a listener share. */
export interface Http1Options {
  /** Bytes of a request's line and headers: above, node:http answers 431. */
  maxHeaderBytes: number;
  /** Seconds that a connection may rest, as its client is told; 0: it is not told. */
  keepAliveS: () => number;
  /** Connections that have not said anything yet. */
  fresh: RunningList<Http1Connection>;
  /** Connections that rest between two requests. */
  resting: RunningList<Http1Connection>;
  /** Takes a request: the handler answers it, or hands it over. Undefined: it is node:http's. */
  take: (request: Http1Request, connection: Http1Connection) => Http1Handler | undefined;
  /** Gives node:http a connection with what was read of it and not answered. */
  handOver: (connection: Http1Connection, unread: Buffer) => void;
  /** Told when a connection has nothing to do any more. */
  onIdle: (connection: Http1Connection) => void;
  /** Told when a client has ended its side in the middle of a request. */
  onCut: (connection: Http1Connection) => void;
  /** Told of what is no client's fault, and ended the connection. */
  onError: (error: unknown) => void;
}

interface KnownHead {
  readonly head: Http1Head;
  /** Where it ends. */
  readonly end: number;
  readonly bytes: Buffer;
}

/** Read ahead while a request runs; a client that sends more waits. */
const mostAheadBytes = 64 * 1024;
const mostAheadChunks = 16;
/** Milliseconds for the rest of a request: some clients send its head and its body one after the other. */
const restMs = 5;
/** Begun one after the other, before other connections have their turn. */
const requestsPerTurn = 16;
/** Heads that are longer are not remembered: a connection that rests would hold them. */
const mostKnownBytes = 2048;

export class Http1Connection implements Timed {
  readonly socket: Socket;
  /** A socket that has closed does not say it any more. */
  readonly remoteAddress: string | undefined;
  sinceMs = 0;
  earlier: Timed | undefined = undefined;
  later: Timed | undefined = undefined;
  list: object | undefined = undefined;
  readonly #options: Http1Options;
  readonly #onData = (chunk: Buffer) => this.#read(chunk);
  readonly #onEnd = () => this.#end();
  readonly #onClose = () => this.#close();
  readonly #onWritten = (error?: Error | null) => {
    if (!error) this.#answered();
  };
  /** Read, and not begun. */
  #ahead: Buffer[] = [];
  #aheadBytes = 0;
  /** The head of the last request. */
  #known: KnownHead | undefined;
  /** The request that runs, as it came. */
  #running: Buffer | undefined;
  #handler: Http1Handler | undefined;
  /** Runs while the rest of a request is waited for. */
  #late: NodeJS.Timeout | undefined;
  #begunInTurn = 0;
  /** For its next turn. */
  #waits = false;
  #isPaused = false;
  #isDraining = false;
  /** Of requests that had come before it drained: they are answered all the same. */
  #owedBytes = 0;
  #saysClose = false;
  #isGone = false;

  constructor(socket: Socket, options: Http1Options) {
    this.socket = socket;
    this.remoteAddress = socket.remoteAddress;
    this.#options = options;
    socket.on("data", this.#onData).on("end", this.#onEnd).on("close", this.#onClose);
    options.fresh.add(this, performance.now());
  }

  /** No request runs, and no answer is on its way. */
  get isIdle(): boolean {
    return !this.#isGone && this.#running === undefined && this.#ahead.length === 0;
  }

  /** What is asked from now on is not answered, what has been asked for the last time. */
  drain(): void {
    this.#isDraining = true;
    this.#owedBytes = this.#aheadBytes;
  }

  // What the handler of the request that runs may ask for.

  /** The fields of an answer, as lines, that say what becomes of the connection: it is held to them. */
  connectionFields(): string {
    if (this.#isDraining && this.#owedBytes <= 0) {
      this.#saysClose = true;
      return "connection: close\r\n";
    }
    const keepAliveS = this.#options.keepAliveS();
    return keepAliveS === 0
      ? "Connection: keep-alive\r\n"
      : `Connection: keep-alive\r\nKeep-Alive: timeout=${keepAliveS}\r\n`;
  }

  /** Sends the answer. */
  answer(answer: string, encoding: "latin1" | "utf8"): void;
  answer(answer: Uint8Array): void;
  answer(answer: string | Uint8Array, encoding: "latin1" | "utf8" = "latin1"): void {
    // Where it is not, it is about to close.
    if (this.socket.writable) this.socket.write(answer, encoding, this.#onWritten);
  }

  /** False: the client has left, or is leaving. */
  get canHandOver(): boolean {
    return this.#running !== undefined && !this.socket.destroyed && !this.socket.readableEnded;
  }

  /** Lets node:http read the request, and all that follows. */
  handOver(): void {
    if (this.canHandOver) this.#leave();
  }

  #read(chunk: Buffer): void {
    this.#ahead.push(chunk);
    this.#aheadBytes += chunk.length;
    if (this.#running === undefined && !this.#waits) {
      this.#begunInTurn = 0;
      this.#serve();
    } else if (this.#aheadBytes > mostAheadBytes || this.#ahead.length > mostAheadChunks) {
      this.#isPaused = true;
      this.socket.pause();
    }
  }

  /** Begins the next request of those that have come. */
  #serve(): void {
    const [first] = this.#ahead;
    if (this.#isGone || this.#running !== undefined || first === undefined) return;
    this.#options.fresh.remove(this);
    this.#options.resting.remove(this);
    // Its client will hear no more: it has ended its side, to which this one answers in kind.
    if (!this.socket.writable) return;
    const bytes = withoutEmptyLines(
      this.#ahead.length === 1 ? first : Buffer.concat(this.#ahead, this.#aheadBytes),
    );
    if (bytes.length === 0) {
      this.#rest();
      return;
    }
    const found = this.#find(bytes);
    if (found === "incomplete") {
      this.#ahead = [bytes];
      this.#aheadBytes = bytes.length;
      this.#late ??= setTimeout(() => this.#leave(), restMs);
    } else {
      clearTimeout(this.#late);
      this.#late = undefined;
      if (found === "odd") this.#leave();
      else this.#begin(bytes, found);
    }
  }

  #begin(bytes: Buffer, { head, end }: KnownHead): void {
    const length = Math.min(bytes.length, end + head.bodyBytes);
    const body = bytes.subarray(end, length);
    const isWhole = body.length === head.bodyBytes;
    this.#aheadBytes = bytes.length - length;
    this.#ahead = this.#aheadBytes === 0 ? [] : [bytes.subarray(length)];
    this.#running = this.#aheadBytes === 0 ? bytes : bytes.subarray(0, length);
    this.#owedBytes -= length;
    this.#begunInTurn++;
    try {
      const handler = this.#options.take({ head, body, isWhole }, this);
      if (handler === undefined) this.handOver();
      else if (!this.#isGone) this.#handler = handler;
    } catch (error) {
      this.#options.onError(error);
      this.socket.destroy();
    }
  }

  /** The head that the bytes begin with, where the request has come whole. */
  #find(bytes: Buffer): KnownHead | "odd" | "incomplete" {
    const found = this.#findHead(bytes);
    if (typeof found === "string") return found;
    return bytes.length < found.end + found.head.bodyBytes ? "incomplete" : found;
  }

  #findHead(bytes: Buffer): KnownHead | "odd" | "incomplete" {
    const known = this.#known;
    if (known !== undefined && bytes.length >= known.end) {
      if (bytes.compare(known.bytes, 0, known.end, 0, known.end) === 0) return known;
    }
    const end = headEnd(bytes);
    if ((end || bytes.length) > this.#options.maxHeaderBytes) return "odd";
    if (end === 0) return isLetter(bytes[0]) ? "incomplete" : "odd";
    const head = readHead(bytes.subarray(0, end));
    if (head === undefined) return "odd";
    const found = { head, end, bytes: bytes.subarray(0, end) };
    this.#known = end > mostKnownBytes ? undefined : { ...found, bytes: Buffer.from(found.bytes) };
    return found;
  }

  /** The answer has left. */
  #answered(): void {
    const handler = this.#handler;
    this.#running = undefined;
    this.#handler = undefined;
    handler?.onClosed();
    if (this.#saysClose) {
      this.#ahead = [];
      this.socket.destroySoon();
      return;
    }
    if (this.#isPaused && this.#aheadBytes <= mostAheadBytes) {
      this.#isPaused = false;
      this.socket.resume();
    }
    if (this.#ahead.length === 0) this.#rest();
    else if (this.#begunInTurn < requestsPerTurn) this.#serve();
    else {
      this.#waits = true;
      setImmediate(() => {
        this.#waits = false;
        this.#begunInTurn = 0;
        this.#serve();
      });
    }
  }

  /** Waits for the next request. */
  #rest(): void {
    this.#ahead = [];
    this.#aheadBytes = 0;
    this.#options.resting.add(this, performance.now());
    this.#options.onIdle(this);
  }

  /** Leaves the connection to node:http. */
  #leave(): void {
    const unread = this.#running === undefined ? this.#ahead : [this.#running, ...this.#ahead];
    this.#isGone = true;
    this.socket.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose);
    // It stays as long as the socket does, but need not keep what was a request's.
    this.#ahead = [];
    this.#running = this.#handler = this.#known = undefined;
    this.#options.handOver(this, Buffer.concat(unread));
  }

  #end(): void {
    if (this.#late === undefined) {
      this.socket.end();
      return;
    }
    clearTimeout(this.#late);
    // A call begins with its head, and is refused or given up without its body.
    const [bytes] = this.#ahead;
    const found = bytes === undefined ? "odd" : this.#findHead(bytes);
    this.drain();
    if (bytes !== undefined && typeof found !== "string") this.#begin(bytes, found);
    if (!this.#saysClose) this.#options.onCut(this);
  }

  #close(): void {
    this.#isGone = true;
    clearTimeout(this.#late);
    this.#options.fresh.remove(this);
    this.#options.resting.remove(this);
    this.#handler?.onClosed();
  }
}

/** Some clients end a request with one (RFC 9112, section 2.2). */
function withoutEmptyLines(bytes: Buffer): Buffer {
  let at = 0;
  while (bytes[at] === 0x0d && bytes[at + 1] === 0x0a) at += 2;
  return at === 0 ? bytes : bytes.subarray(at);
}

function isLetter(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x41 && byte <= 0x5a;
}
