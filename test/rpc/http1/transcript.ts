/** What came back on a connection, as text that can be compared: every byte of it, save what differs between any two calls. */
import { shown } from "../equality/wire.ts";

const madeId = /^x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/;
// RFC 9110, section 5.6.7: the only form that is sent.
const date = /^Date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/;

/** One answer. */
export interface Came {
  readonly status: number;
  /** As they were sent, names in their case, values to the byte; sorted. */
  readonly lines: readonly string[];
  readonly body: string;
  /** "whole", or how it ended: "cut" (the connection may still be open), "closed" (its end is the connection's). */
  readonly end: string;
}

/**
 * Reads answers off what came. Header lines are sorted: Connect's handlers and the lean path set the same in
 * another order. Chunks are put together: where one ends and the next begins says nothing. An answer without a
 * body that says how long it would be (to HEAD) is told by another answer, or nothing, coming after it.
 */
export function read(bytes: Buffer, isOver: boolean): Came[] {
  const all: Came[] = [];
  let rest = bytes;
  while (rest.length > 0) {
    const headEnd = rest.indexOf("\r\n\r\n");
    if (headEnd < 0) {
      all.push({ status: 0, lines: [], body: shown(rest), end: "cut" });
      break;
    }
    const [first = "", ...fields] = rest.toString("latin1", 0, headEnd).split("\r\n");
    const lines = [first, ...fields.map(normal).sort()];
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1] ?? 0);
    const { body, end, length } = readBody(rest.subarray(headEnd + 4), status, fields, isOver);
    all.push({ status, lines, body, end });
    rest = rest.subarray(headEnd + 4 + length);
  }
  return all;
}

function normal(line: string): string {
  if (madeId.test(line)) return "x-request-id: (made)";
  return date.test(line) ? "Date: (now)" : line;
}

function fieldOf(fields: readonly string[], name: string): string | undefined {
  const line = fields.find((field) => field.toLowerCase().startsWith(`${name}:`));
  return line?.slice(name.length + 1).trim();
}

interface ReadBody {
  readonly body: string;
  readonly end: string;
  readonly length: number;
}

function readBody(bytes: Buffer, status: number, fields: readonly string[], isOver: boolean): ReadBody {
  const isNone = bytes.length === 0 || bytes.subarray(0, 9).toString() === "HTTP/1.1 ";
  if (status < 200 || status === 204 || status === 304) return { body: "", end: "whole", length: 0 };
  if (fieldOf(fields, "transfer-encoding") === "chunked") {
    return isNone ? { body: "", end: "none", length: 0 } : readChunks(bytes);
  }
  const length = Number(fieldOf(fields, "content-length") ?? Number.NaN);
  if (Number.isNaN(length)) {
    return isNone
      ? { body: "", end: "none", length: 0 }
      : { body: shown(bytes), end: isOver ? "closed" : "open", length: bytes.length };
  }
  if (isNone && length > 0) return { body: "", end: "none", length: 0 };
  if (bytes.length < length) return { body: shown(bytes), end: "cut", length: bytes.length };
  return { body: shown(bytes.subarray(0, length)), end: "whole", length };
}

function readChunks(bytes: Buffer): ReadBody {
  const parts: Buffer[] = [];
  const body = () => shown(Buffer.concat(parts));
  const cut = () => ({ body: body(), end: "cut", length: bytes.length });
  let at = 0;
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return cut();
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    if (Number.isNaN(size)) return cut();
    if (size === 0) {
      const trailers = lineEnd + 2;
      const end = bytes.subarray(trailers, trailers + 2).equals(Buffer.from("\r\n"))
        ? trailers
        : bytes.indexOf("\r\n\r\n", trailers) + 2;
      if (end < trailers) return cut();
      const text = bytes.toString("latin1", trailers, end);
      return { body: body() + (text && `\n${text}`), end: "whole", length: end + 2 };
    }
    const next = lineEnd + 2 + size;
    parts.push(bytes.subarray(lineEnd + 2, next));
    if (bytes.length < next + 2) return cut();
    at = next + 2;
  }
}
