/** The head of a request of the most usual form. Everything else is node:http's to read, and to refuse. */
import type { IncomingHttpHeaders } from "node:http";

/**
 * A request's line and headers. Not to be changed by who gets it, nor anything in it: a
 * client that repeats itself gets the same one for each request.
 */
export interface Http1Head {
  readonly verb: string;
  /** With the query. */
  readonly path: string;
  /** As node:http has them. */
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they came. */
  readonly rawHeaders: readonly string[];
  /** Of the body that follows. */
  readonly bodyBytes: number;
  /** Room for what the caller makes of it, once for all requests that have it. */
  derived: unknown;
}

const endOfHead = Buffer.from("\r\n\r\n", "latin1");
const mostHeaders = 100;
/** As much as is worth reading of a body that nobody wants: larger ones are refused on their announcement. */
const mostBodyBytes = 64 * 1024;

// RFC 9112, sections 3 and 5, and of what they allow only what has one meaning to everybody: no
// folded lines, no bare line feeds, no space before a colon, no control characters.
const requestLine = /(POST|GET) (\/[!-~]*) HTTP\/1\.1\r\n/y;
// Padding is not parted off here: two that may both match it go through it by its square.
const field = /([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)\r\n/y;
/** What says where a message ends, or that it is more than a message: any of it is rare, and where attacks live. */
const odd = new Set([
  "transfer-encoding",
  "upgrade",
  "expect",
  "trailer",
  "http2-settings",
  "proxy-connection",
  "set-cookie",
]);

/** Where a head ends that begins with the bytes: behind its empty line; 0: not within them. */
export function headEnd(bytes: Buffer): number {
  const at = bytes.indexOf(endOfHead);
  return at < 0 ? 0 : at + endOfHead.length;
}

/** Reads a head, empty line and all. Undefined: it is not of the most usual form. */
export function readHead(bytes: Buffer): Http1Head | undefined {
  const text = bytes.toString("latin1", 0, bytes.length - 2);
  requestLine.lastIndex = 0;
  const line = requestLine.exec(text);
  if (line === null) return undefined;
  const headers: Record<string, string> = {};
  const rawHeaders: string[] = [];
  for (let at = requestLine.lastIndex; at < text.length; at = field.lastIndex) {
    field.lastIndex = at;
    const found = field.exec(text);
    if (found === null || rawHeaders.length === 2 * mostHeaders) return undefined;
    const [, rawName = "", padded = ""] = found;
    const name = rawName.toLowerCase();
    // Of two, node:http joins some and drops others. A name that every object has is no usual one.
    if (headers[name] !== undefined || odd.has(name)) return undefined;
    const from = at + rawName.length + 1;
    const value = readValue(bytes, from, from + padded.length);
    headers[name] = value;
    rawHeaders.push(rawName, value);
  }
  const [, verb = "", path = ""] = line;
  const { connection = "keep-alive" } = headers;
  const bodyBytes = bodyBytesOf(headers["content-length"]);
  if (headers.host === undefined || connection.toLowerCase() !== "keep-alive" || bodyBytes === undefined)
    return undefined;
  if (verb === "GET" && bodyBytes > 0) return undefined;
  return { verb, path, headers, rawHeaders, bodyBytes, derived: undefined };
}

/** Undefined: no number as clients write it, or more than is read here. */
function bodyBytesOf(contentLength: string | undefined): number | undefined {
  if (contentLength === undefined) return 0;
  if (!/^\d{1,5}$/.test(contentLength)) return undefined;
  const bytes = Number(contentLength);
  return bytes > mostBodyBytes ? undefined : bytes;
}

/**
 * A value without its padding, which is of spaces and tabs alone. Taken from the bytes: a part of
 * the head's text would keep all of it, and a call that waits for its row to be written keeps some.
 */
function readValue(bytes: Buffer, from: number, to: number): string {
  let [begin, end] = [from, to];
  while (begin < end && isPadding(bytes[begin])) begin++;
  while (end > begin && isPadding(bytes[end - 1])) end--;
  return bytes.toString("latin1", begin, end);
}

function isPadding(code: number | undefined): boolean {
  return code === 0x20 || code === 0x09;
}
