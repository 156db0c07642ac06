/**
 * An HTTP/2 connection by hand: sends any frame, and reads what comes as strictly as RFC 9113 allows.
 * What the server may not send is a violation, which fails the test that the connection is of.
 */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import type { TestContext } from "node:test";
import { flag, frame, frameType, headerBlock, magic, openSocket, uint32 } from "../../faults/frames.ts";
import { type Fields, HeaderDecoder } from "./hpack.ts";

/** By their numbers (section 7). */
export const errorCodes = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
] as const;
export type ErrorCode = (typeof errorCodes)[number];

export const settingId = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
};

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** What has come for a stream. */
export interface Answer {
  /** Of 1xx, in the order in which they came. */
  readonly informational: number[];
  status: number | undefined;
  headers: Record<string, string>;
  /** Undefined: it ended without. */
  trailers: Record<string, string> | undefined;
  body: Buffer;
  /** By END_STREAM. */
  ended: boolean;
  /** By RST_STREAM. */
  reset: ErrorCode | undefined;
}

export interface ConnectionOptions {
  /** What SETTINGS says first; unless given, a window that nothing fills, and as much for the connection. */
  settings?: readonly (readonly [id: number, value: number])[];
  /** False: nothing is sent by itself, no preface and no acknowledgement. */
  greets?: boolean;
}

const waitMs = 10_000;
const maxWindow = 2 ** 31 - 1;
const defaultWindow = 65_535;

interface Exchange {
  readonly answer: Answer;
  readonly body: Buffer[];
  /** What the server may still send. */
  receiveWindow: number;
  /** What this side may still send. */
  sendWindow: number;
  /** The sum of the server's WINDOW_UPDATEs. */
  given: number;
}

type Settings = readonly (readonly [id: number, value: number])[];

export function settings(values: Settings): Buffer {
  const payload = Buffer.alloc(6 * values.length);
  for (const [i, [id, value]] of values.entries()) {
    payload.writeUInt16BE(id, 6 * i);
    payload.writeUInt32BE(value, 6 * i + 2);
  }
  return frame(frameType.settings, 0, 0, payload);
}

function readSettings(payload: Uint8Array): Settings {
  const view = Buffer.from(payload);
  const values: [number, number][] = [];
  for (let at = 0; at + 6 <= view.length; at += 6) {
    values.push([view.readUInt16BE(at), view.readUInt32BE(at + 2)]);
  }
  return values;
}

export const settingsAck = frame(frameType.settings, flag.ack, 0);
export const headers = (stream: number, fields: Fields, flags = flag.endHeaders) =>
  frame(frameType.headers, flags, stream, headerBlock(fields));
export const data = (stream: number, payload: Uint8Array, flags = 0, padding?: number) =>
  padding === undefined
    ? frame(frameType.data, flags, stream, payload)
    : frame(frameType.data, flags | flag.padded, stream, padded(payload, padding));
export const windowUpdate = (stream: number, increment: number) =>
  frame(frameType.windowUpdate, 0, stream, uint32(increment));
export const reset = (stream: number, code: ErrorCode = "CANCEL") =>
  frame(frameType.rstStream, 0, stream, uint32(errorCodes.indexOf(code)));
export const ping = (payload = Buffer.alloc(8), flags = 0) => frame(frameType.ping, flags, 0, payload);

export class Connection {
  readonly socket: Socket;
  readonly received: Frame[] = [];
  readonly violations: string[] = [];
  /** The code of the last GOAWAY, and the last stream that it says was or may be processed. */
  goaway: { code: ErrorCode; lastStream: number } | undefined;
  /** The socket has ended, by whichever side. */
  closed = false;
  /** What the server's SETTINGS said. */
  readonly serverSettings = new Map<number, number>();
  /** SETTINGS of this side that the server has acknowledged. */
  acknowledged = 0;

  readonly #exchanges = new Map<number, Exchange>();
  readonly #decoder = new HeaderDecoder();
  readonly #sent: Settings[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #answers: boolean;
  #rest: Buffer = Buffer.alloc(0);
  /** HEADERS and CONTINUATION so far of a block that has not ended. */
  #block: { stream: number; endStream: boolean; parts: Buffer[] } | undefined;
  #initialWindow = defaultWindow;
  #receiveWindow = defaultWindow;
  #serverInitialWindow = defaultWindow;
  #sendWindow = defaultWindow;
  #maxFrameSize = 16_384;
  #pings = 0;
  #nextStream = 1;

  /** Opens one, which ends with its test. */
  constructor(t: TestContext, port: number, options: ConnectionOptions = {}) {
    this.socket = openSocket(port, { allowHalfOpen: true });
    this.socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    const end = () => {
      this.closed = true;
      this.#wake();
    };
    this.socket.once("end", end).once("close", end);
    t.after(() => {
      this.socket.destroy();
      assert.deepEqual(this.violations, [], "what the server sent");
    });
    this.#answers = options.greets !== false;
    if (!this.#answers) return;
    const values = options.settings ?? [[settingId.initialWindowSize, maxWindow]];
    this.socket.write(magic);
    this.send(settings(values));
    if (options.settings === undefined) this.allow(0, maxWindow - defaultWindow);
  }

  /**
   * Sends whole frames, whatever the windows say, of which DATA takes. SETTINGS count once
   * they are acknowledged; a window that grows, at once.
   */
  send(...frames: Uint8Array[]): void {
    for (const each of frames) {
      const [type, flags] = [each[3], each[4]!];
      if (type === frameType.settings && (flags & flag.ack) === 0) {
        this.expectSettings(readSettings(each.subarray(9)));
      } else if (type === frameType.data) {
        this.#exchange(Buffer.from(each).readUInt32BE(5)).sendWindow -= each.length - 9;
        this.#sendWindow -= each.length - 9;
      }
    }
    this.socket.write(Buffer.concat(frames));
  }

  /** For SETTINGS that a test writes past {@link send}, in pieces. */
  expectSettings(values: Settings): void {
    this.#sent.push(values);
    for (const [id, value] of values) {
      if (id === settingId.initialWindowSize && value > this.#initialWindow) this.#setInitialWindow(value);
      if (id === settingId.maxFrameSize) this.#maxFrameSize = Math.max(this.#maxFrameSize, value);
    }
  }

  /** Sends WINDOW_UPDATE, in one frame or in several. */
  allow(stream: number, bytes: number, frames = 1): void {
    if (stream === 0) this.#receiveWindow += bytes * frames;
    else this.#exchange(stream).receiveWindow += bytes * frames;
    this.send(...Array.from({ length: frames }, () => windowUpdate(stream, bytes)));
  }

  /** Resets a stream, of which nothing more than what is on its way is to come. */
  reset(stream: number, code: ErrorCode = "CANCEL"): void {
    this.send(reset(stream, code));
  }

  /** The bytes that the server has let this side send of a stream so far, beyond its window at first. */
  given(stream: number): number {
    return this.#exchange(stream).given;
  }

  /** A stream of this side, by default the next one in order, whose answer is listened to. */
  newStream(stream = this.#nextStream): number {
    this.#nextStream = stream + 2;
    this.#exchange(stream);
    return stream;
  }

  /** Begins a request, and ends it with a body unless that is undefined; within the windows only if they are large enough. */
  request(fields: Fields, body?: Uint8Array): number {
    const stream = this.newStream();
    this.send(headers(stream, fields));
    if (body !== undefined) this.send(data(stream, body, flag.endStream));
    return stream;
  }

  /** Sends a body as the server's windows allow, in frames of this size at most, each padded by so many bytes. */
  async sendBody(
    stream: number,
    body: Uint8Array,
    options: { frameSize?: number; padding?: number; end?: boolean } = {},
  ): Promise<void> {
    const exchange = this.#exchange(stream);
    const { frameSize = 16_384, padding, end = true } = options;
    // Padding and its length take of the windows too (section 6.9.1).
    const extra = padding === undefined ? 0 : 1 + padding;
    const room = () => Math.min(exchange.sendWindow, this.#sendWindow) - extra;
    const isOver = () => exchange.answer.ended || exchange.answer.reset !== undefined || this.closed;
    for (let at = 0; at < body.length && !isOver(); ) {
      const what = `room for ${body.length - at} bytes more on stream ${stream}`;
      await this.until(() => room() > 0 || isOver() || undefined, what);
      // Others who waited for it may have taken it.
      if (room() <= 0) continue;
      const piece = body.subarray(at, at + Math.min(room(), frameSize));
      at += piece.length;
      this.send(data(stream, piece, end && at === body.length ? flag.endStream : 0, padding));
    }
    if (body.length === 0 && end) this.send(data(stream, body, flag.endStream));
  }

  /** What has come of a stream's answer so far. */
  soFar(stream: number): Answer {
    const { answer, body } = this.#exchange(stream);
    if (body.length > 1) body.splice(0, body.length, Buffer.concat(body));
    answer.body = body[0] ?? Buffer.alloc(0);
    return answer;
  }

  /** Resolves once the answer has ended, by END_STREAM or a reset. */
  async answer(stream: number): Promise<Answer> {
    const { answer } = this.#exchange(stream);
    await this.until(() => {
      if (answer.ended || answer.reset !== undefined) return true;
      if (this.closed)
        throw new Error(`the connection ended (${this.#end()}) before the answer to stream ${stream}`);
      return undefined;
    }, `the end of the answer to stream ${stream}`);
    return this.soFar(stream);
  }

  /** Waits for what is looked for to be there, looking again at each frame; says what it waited for in vain. */
  until<T>(look: () => T | undefined, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(again);
      };
      const again = () => {
        try {
          const found = look();
          if (found === undefined) return;
          done();
          resolve(found);
        } catch (error) {
          done();
          reject(error);
        }
      };
      const timer = setTimeout(() => {
        done();
        reject(new Error(`waited in vain for ${what}; of the connection: ${this.#end()}`));
      }, waitMs);
      this.#waiting.add(again);
      again();
    });
  }

  /** Resolves once the server has seen all that was sent before, or the connection has ended. */
  async settled(): Promise<void> {
    // An acknowledgement may overtake what the first PING's turn was to send.
    for (let i = 0; i < 2; i++) {
      const payload = Buffer.alloc(8);
      payload.writeUInt32BE(++this.#pings, 4);
      this.send(ping(payload));
      const isAck = ({ type, flags, payload: seen }: Frame) =>
        type === frameType.ping && flags === flag.ack && seen.equals(payload);
      await this.until(() => this.closed || this.received.some(isAck) || undefined, "the answer to a PING");
      if (this.closed) return;
    }
  }

  /**
   * What came of all that was sent: "GOAWAY code" where it ended the connection, "closed" where that was
   * without a word, "RST_STREAM code", or "lives".
   */
  async outcome(stream: number): Promise<string> {
    await this.settled();
    if (this.goaway !== undefined && this.goaway.code !== "NO_ERROR") {
      await this.until(() => this.closed || undefined, "the end of a connection that was told to go away");
    }
    if (this.closed) return this.#end();
    const code = this.soFar(stream).reset;
    return code === undefined ? "lives" : `RST_STREAM ${code}`;
  }

  #end(): string {
    if (this.goaway !== undefined) return `GOAWAY ${this.goaway.code}`;
    return this.closed ? "closed" : "lives";
  }

  #exchange(stream: number): Exchange {
    let exchange = this.#exchanges.get(stream);
    if (exchange === undefined) {
      const answer: Answer = {
        informational: [],
        status: undefined,
        headers: {},
        trailers: undefined,
        body: Buffer.alloc(0),
        ended: false,
        reset: undefined,
      };
      exchange = {
        answer,
        body: [],
        receiveWindow: this.#initialWindow,
        sendWindow: this.#serverInitialWindow,
        given: 0,
      };
      this.#exchanges.set(stream, exchange);
    }
    return exchange;
  }

  #wake(): void {
    for (const again of [...this.#waiting]) again();
  }

  #onData(chunk: Buffer): void {
    let rest: Buffer = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (rest.length >= 9) {
      const length = rest.readUIntBE(0, 3);
      if (length > this.#maxFrameSize) this.violations.push(`a frame of ${length} bytes`);
      if (rest.length < 9 + length) break;
      const next = {
        type: rest[3]!,
        flags: rest[4]!,
        stream: rest.readUInt32BE(5),
        payload: rest.subarray(9, 9 + length),
      };
      rest = rest.subarray(9 + length);
      this.received.push(next);
      try {
        this.#take(next);
      } catch (error) {
        this.violations.push(String(error));
      }
    }
    this.#rest = rest;
    this.#wake();
  }

  #take({ type, flags, stream, payload }: Frame): void {
    if (this.received.length === 1)
      assert.equal(type, frameType.settings, "the server's preface is SETTINGS");
    if (this.#block !== undefined) {
      assert.deepEqual([type, stream], [frameType.continuation, this.#block.stream], "a block goes on");
    }
    const onStream = [
      frameType.data,
      frameType.headers,
      frameType.rstStream,
      frameType.continuation,
    ].includes(type);
    if (onStream)
      assert.ok(this.#exchanges.has(stream), `frame ${type} on stream ${stream}, which was not asked for`);
    switch (type) {
      case frameType.data: {
        const exchange = this.#exchange(stream);
        this.#assertOpen(stream, exchange);
        assert.notEqual(exchange.answer.status, undefined, `DATA before the headers of stream ${stream}`);
        exchange.receiveWindow -= payload.length;
        this.#receiveWindow -= payload.length;
        const windows = [exchange.receiveWindow, this.#receiveWindow];
        // An empty frame takes no window.
        if (payload.length > 0)
          assert.ok(Math.min(...windows) >= 0, `stream ${stream} is beyond its windows: ${windows}`);
        exchange.body.push(unpad(flags, payload));
        if ((flags & flag.endStream) !== 0) exchange.answer.ended = true;
        return;
      }
      case frameType.headers: {
        this.#assertOpen(stream, this.#exchange(stream));
        const fragment = unpad(flags, payload).subarray((flags & flag.priority) !== 0 ? 5 : 0);
        this.#block = { stream, endStream: (flags & flag.endStream) !== 0, parts: [fragment] };
        if ((flags & flag.endHeaders) !== 0) this.#endBlock();
        return;
      }
      case frameType.continuation:
        if (this.#block === undefined) throw new Error("CONTINUATION of nothing");
        this.#block.parts.push(payload);
        if ((flags & flag.endHeaders) !== 0) this.#endBlock();
        return;
      case frameType.rstStream:
        this.#exchange(stream).answer.reset = errorCodes[payload.readUInt32BE(0)];
        return;
      case frameType.settings:
        this.#takeSettings(flags, payload);
        return;
      case frameType.goaway: {
        const code = errorCodes[payload.readUInt32BE(4)];
        assert.ok(code !== undefined);
        const lastStream = payload.readUInt32BE(0);
        if (this.goaway)
          assert.ok(lastStream <= this.goaway.lastStream, "GOAWAY names a later stream than before");
        this.goaway = { code, lastStream };
        return;
      }
      case frameType.windowUpdate: {
        const increment = payload.readUInt32BE(0);
        assert.ok(increment > 0);
        if (stream === 0) this.#sendWindow += increment;
        else {
          const exchange = this.#exchange(stream);
          exchange.sendWindow += increment;
          exchange.given += increment;
        }
        assert.ok(this.#sendWindow <= maxWindow);
        return;
      }
      case frameType.ping:
        if ((flags & flag.ack) === 0 && this.#answers) this.send(ping(Buffer.from(payload), flag.ack));
        return;
      default:
        throw new Error(`a frame of type ${type}`);
    }
  }

  #assertOpen(stream: number, { answer }: Exchange): void {
    const isOver = answer.ended || answer.reset !== undefined;
    assert.ok(!isOver, `a frame of an answer on stream ${stream}, whose answer has ended`);
  }

  #endBlock(): void {
    const { stream, endStream, parts } = this.#block!;
    this.#block = undefined;
    const fields = this.#decoder.decode(Buffer.concat(parts));
    const { answer } = this.#exchange(stream);
    for (const [name] of fields) assert.match(name, /^:?[!#$%&'*+.^_`|~0-9a-z-]+$/);
    const pairs: Record<string, string> = {};
    for (const [name, value] of fields) pairs[name] = name in pairs ? `${pairs[name]}, ${value}` : value;
    if (answer.status === undefined) {
      const { ":status": status = "", ...rest } = pairs;
      assert.equal(fields[0]?.[0], ":status");
      assert.match(status, /^[1-5]\d\d$/);
      if (status.startsWith("1")) {
        assert.ok(!endStream, "1xx ends a stream");
        answer.informational.push(Number(status));
        return;
      }
      answer.status = Number(status);
      answer.headers = rest;
    } else {
      assert.ok(endStream, "trailers do not end their stream");
      assert.ok(!fields.some(([name]) => name.startsWith(":")), "trailers hold a pseudo-header");
      answer.trailers = pairs;
    }
    if (endStream) answer.ended = true;
  }

  #takeSettings(flags: number, payload: Buffer): void {
    if ((flags & flag.ack) !== 0) {
      assert.equal(payload.length, 0);
      const values = this.#sent[this.acknowledged++];
      if (values === undefined) throw new Error("an acknowledgement of SETTINGS that were not sent");
      for (const [id, value] of values) {
        if (id === settingId.initialWindowSize) this.#setInitialWindow(value);
        if (id === settingId.headerTableSize) this.#decoder.setLimit(value);
        if (id === settingId.maxFrameSize) this.#maxFrameSize = value;
      }
      return;
    }
    assert.equal(payload.length % 6, 0);
    for (const [id, value] of readSettings(payload)) {
      this.serverSettings.set(id, value);
      if (id !== settingId.initialWindowSize) continue;
      for (const exchange of this.#exchanges.values())
        exchange.sendWindow += value - this.#serverInitialWindow;
      this.#serverInitialWindow = value;
    }
    if (this.#answers) this.send(settingsAck);
  }

  #setInitialWindow(value: number): void {
    for (const exchange of this.#exchanges.values()) exchange.receiveWindow += value - this.#initialWindow;
    this.#initialWindow = value;
  }
}

export function padded(payload: Uint8Array, padding: number): Buffer {
  return Buffer.concat([Buffer.from([padding]), payload, Buffer.alloc(padding)]);
}

function unpad(flags: number, payload: Buffer): Buffer {
  if ((flags & flag.padded) === 0) return payload;
  assert.ok(payload[0]! < payload.length, "padding is longer than its frame");
  return payload.subarray(1, payload.length - payload[0]!);
}
