/** A decoded list of header fields. */
import type { IncomingHttpHeaders } from "node:http";
import { sensitiveHeaders } from "node:http2";

/**
 * Not to be changed by who gets it, nor anything in it: a client that repeats itself gets
 * the same one for each request.
 */
export class HeaderBlock {
  /** Names and values in turn, as they came, pseudo-header fields among them. */
  readonly rawHeaders: readonly string[];
  /**
   * What is wrong with it as a request, or as trailers of one, by RFC 9113, sections 8.2 and
   * 8.3. Undefined: nothing. For the log of the server: it names no text of the client's.
   */
  readonly malformed: string | undefined;
  /** Of the whole list, as RFC 7541, section 4.1 and SETTINGS_MAX_HEADER_LIST_SIZE count it. */
  readonly bytes: number;
  /** Its fields are not kept, and it is malformed. */
  readonly isTooLarge: boolean;
  /** Room for what the caller makes of it, once for all requests that have it. */
  derived: unknown = undefined;
  readonly #neverIndexed: readonly string[];
  #headers: IncomingHttpHeaders | undefined;

  constructor(
    rawHeaders: readonly string[],
    neverIndexed: readonly string[],
    malformed: string | undefined,
    bytes: number,
    isTooLarge: boolean,
  ) {
    this.rawHeaders = rawHeaders;
    this.#neverIndexed = neverIndexed;
    this.malformed = malformed;
    this.bytes = bytes;
    this.isTooLarge = isTooLarge;
  }

  /** As node:http2 has them for the listeners of 'stream': the same object for each call. */
  get headers(): IncomingHttpHeaders {
    this.#headers ??= toHeaders(this.rawHeaders, this.#neverIndexed);
    return this.#headers;
  }
}

/** Those of which node:http2 keeps the first. */
const singleValueNames = new Set([
  ":status",
  ":method",
  ":authority",
  ":scheme",
  ":path",
  ":protocol",
  "access-control-allow-credentials",
  "access-control-max-age",
  "access-control-request-method",
  "age",
  "authorization",
  "content-encoding",
  "content-language",
  "content-length",
  "content-location",
  "content-md5",
  "content-range",
  "content-type",
  "date",
  "dnt",
  "etag",
  "expires",
  "from",
  "host",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "last-modified",
  "location",
  "max-forwards",
  "proxy-authorization",
  "range",
  "referer",
  "retry-after",
  "tk",
  "upgrade-insecure-requests",
  "user-agent",
  "x-content-type-options",
]);

function toHeaders(rawHeaders: readonly string[], neverIndexed: readonly string[]): IncomingHttpHeaders {
  const headers: Record<string | symbol, string | string[]> = Object.create(null);
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const value = rawHeaders[i + 1] as string;
    const before = headers[name];
    if (before === undefined) headers[name] = name === "set-cookie" ? [value] : value;
    else if (typeof before !== "string") before.push(value);
    else if (!singleValueNames.has(name)) headers[name] = before + (name === "cookie" ? "; " : ", ") + value;
  }
  // Who passes them on has to send these in the same way (RFC 7541, section 7.1.3).
  headers[sensitiveHeaders] = neverIndexed as string[];
  return headers as IncomingHttpHeaders;
}
