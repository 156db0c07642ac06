/** HTTP/1.1 by hand (RFC 9112): requests that no client sends, and what comes back to the byte. */
import { connect, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { type Answer, type Fields, type Request, shown, sorted } from "./wire.ts";

const giveUpMs = 15_000;

/** A connection that one request after the other is sent on. */
export class Http1Connection {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #closed = false;
  /** The server has said that it will close it. */
  #isOver = false;
  #wake: () => void = () => {};

  constructor(port: number) {
    this.socket = connect({ port, host: "127.0.0.1" });
    this.socket.setNoDelay(true).on("error", () => {});
    this.socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    for (const event of ["end", "close"]) {
      this.socket.on(event, () => {
        this.#closed = true;
        this.#wake();
      });
    }
  }

  get reusable(): boolean {
    return !this.#closed && !this.#isOver && !this.socket.destroyed && this.#received.length === 0;
  }

  async exchange(request: Request): Promise<Answer> {
    const sent = this.#send(request);
    const answer = await this.#receive(request.method);
    // What is answered early is still sent to its end: the next request comes after it.
    await sent;
    // What follows a request to upgrade is no HTTP to node, whatever it was answered.
    if (request.headers.some(([name]) => name === "upgrade")) this.#isOver = true;
    return answer;
  }

  /** Sends all of them at once, and reads the answers, which come in turn. */
  async pipeline(requests: readonly Request[]): Promise<Answer[]> {
    for (const request of requests) await this.#send(request);
    const answers: Answer[] = [];
    for (const { method } of requests) answers.push(await this.#receive(method));
    return answers;
  }

  async #send(request: Request): Promise<void> {
    const { body = [], framing = "length" } = request;
    const length = body.reduce((sum, piece) => sum + piece.length, 0);
    const fields: [string, string][] =
      request.host === null ? [] : [["Host", request.host ?? "latchkey.test"]];
    fields.push(...request.headers.map(([name, value]): [string, string] => [name, value]));
    if (request.body !== undefined && framing === "length") fields.push(["Content-Length", String(length)]);
    if (framing === "chunked") fields.push(["Transfer-Encoding", "chunked"]);
    const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    const head = Buffer.from(
      `${request.method} ${request.path} ${request.token ?? "HTTP/1.1"}\r\n${lines}\r\n`,
      "latin1",
    );
    const pieces =
      framing === "chunked" ? [...body.map(chunk), lastChunk(request.trailers ?? [])] : [...body];
    // As a client does that has it all: head and body together, unless the body comes in pieces.
    const writes = pieces.length === 1 ? [Buffer.concat([head, ...pieces])] : [head, ...pieces];
    for (const [i, piece] of writes.entries()) {
      if (i === writes.length - 1) await request.holdLast;
      if (this.socket.destroyed) return;
      this.socket.write(piece);
      // Each piece is a read of its own on the other side, or nearly always so.
      if (i < writes.length - 1) await turn();
    }
  }

  async #receive(method: string): Promise<Answer> {
    const interim: number[] = [];
    for (;;) {
      const head = await this.#until((bytes) => {
        const end = bytes.indexOf("\r\n\r\n");
        return end < 0 ? undefined : end + 4;
      });
      if (head === undefined) return nothing(interim);
      const [statusLine = "", ...lines] = head.toString("latin1").trimEnd().split("\r\n");
      const status = Number(statusLine.split(" ")[1]);
      if (status >= 100 && status < 200) {
        interim.push(status);
        continue;
      }
      const headers = sorted(lines.map(field));
      const value = (name: string) => headers.find(([each]) => each === name)?.[1];
      this.#isOver = value("connection") === "close";
      const answer = { status, headers, interim, trailers: [] as Fields };
      if (method === "HEAD" || status === 204 || status === 304)
        return { ...answer, body: "", end: "headers" };
      if (value("transfer-encoding") === "chunked") return { ...answer, ...(await this.#chunks()) };
      const length = value("content-length");
      if (length === undefined) return { ...answer, body: shown(await this.#rest()), end: "closed" };
      const body = await this.#until((bytes) => (bytes.length < Number(length) ? undefined : Number(length)));
      return body === undefined
        ? { ...answer, body: shown(await this.#rest()), end: "cut" }
        : { ...answer, body: shown(body), end: "body" };
    }
  }

  async #chunks(): Promise<Pick<Answer, "body" | "trailers" | "end">> {
    const parts: Buffer[] = [];
    const body = () => shown(Buffer.concat(parts));
    for (;;) {
      const line = await this.#line();
      const size = Number.parseInt(line ?? "", 16);
      if (Number.isNaN(size)) return { body: body(), trailers: [], end: "cut" };
      if (size === 0) break;
      const part = await this.#until((bytes) => (bytes.length < size + 2 ? undefined : size + 2));
      if (part === undefined) return { body: body(), trailers: [], end: "cut" };
      parts.push(part.subarray(0, size));
    }
    const trailers: [string, string][] = [];
    for (let line = await this.#line(); line; line = await this.#line()) trailers.push(field(line));
    return { body: body(), trailers: sorted(trailers), end: "body" };
  }

  async #line(): Promise<string | undefined> {
    const line = await this.#until((bytes) => {
      const end = bytes.indexOf("\r\n");
      return end < 0 ? undefined : end + 2;
    });
    return line?.toString("latin1").trimEnd();
  }

  /** Takes bytes off once there are as many as `find` wants; undefined: the connection ended before. */
  async #until(find: (bytes: Buffer) => number | undefined): Promise<Buffer | undefined> {
    for (;;) {
      const count = find(this.#received);
      if (count !== undefined) {
        const taken = this.#received.subarray(0, count);
        this.#received = this.#received.subarray(count);
        return taken;
      }
      if (this.#closed) return undefined;
      await this.#more();
    }
  }

  async #rest(): Promise<Buffer> {
    while (!this.#closed) await this.#more();
    const rest = this.#received;
    this.#received = Buffer.alloc(0);
    return rest;
  }

  #more(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${giveUpMs} ms`)), giveUpMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function nothing(interim: readonly number[]): Answer {
  return { status: 0, headers: [], body: "", trailers: [], interim, end: "closed" };
}

function field(line: string): [string, string] {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trim()];
}

function chunk(piece: Uint8Array): Buffer {
  if (piece.length === 0) return Buffer.alloc(0);
  return Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n")]);
}

function lastChunk(trailers: Fields): Buffer {
  const lines = trailers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`0\r\n${lines}\r\n`, "latin1");
}
