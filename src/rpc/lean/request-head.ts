/** Which requests are of the usual form: those that the lean path takes. */
import type { IncomingHttpHeaders } from "node:http";
import { base64Decode } from "@bufbuild/protobuf/wire";
import type { Compression } from "@connectrpc/connect/protocol";
import { type Codec, codecOf, connectJson, connectProto, readTimeout } from "./codec.ts";
import type { LeanRequestHead } from "./touched-rpc.ts";
import type { LeanMethod } from "./unary-method.ts";

export interface HeadReaderOptions {
  methods: readonly LeanMethod[];
  acceptCompression: readonly Compression[];
  maxMessageBytes: number;
}

/** A request's line and headers, of whichever HTTP version. */
export interface RequestLine {
  readonly verb: string | undefined;
  /** With the query. */
  readonly path: string | undefined;
  readonly authority: string | undefined;
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn. */
  readonly rawHeaders: readonly string[];
  readonly httpVersion: 1 | 2;
}

const mostKnown = 1000;

/**
 * Creates what reads the head of a request. Undefined: it is for no unary method, or has
 * anything about it that clients do not usually send; Connect's own handlers take it, and
 * say what is wrong where something is.
 */
export function createHeadReader(
  options: HeadReaderOptions,
): (line: RequestLine) => LeanRequestHead | undefined {
  const byPath = new Map(options.methods.map((method) => [method.path, method]));
  const authorities = createMemo(isAuthority);
  const compressions = createMemo((accepted) => {
    const names = accepted.split(",").map((name) => name.trim());
    for (const name of names) {
      const found = options.acceptCompression.find((compression) => compression.name === name);
      if (found !== undefined) return found;
    }
    return null;
  });

  function readPost(line: RequestLine, method: LeanMethod): LeanRequestHead | undefined {
    const codec = codecOf(line.headers["content-type"]);
    // gRPC's trailers over HTTP/1.1 are nobody's usual form.
    if (codec === undefined || (codec.protocol === "grpc" && line.httpVersion === 1)) return undefined;
    const encoding = line.headers[codec.encodingHeader];
    if (encoding !== undefined && encoding !== "identity") return undefined;
    // Refused on its announcement, not when it has come.
    if (Number(line.headers["content-length"] ?? 0) > options.maxMessageBytes) return undefined;
    return readRest(line, method, codec, undefined);
  }

  function readGet(line: RequestLine, path: string, at: number): LeanRequestHead | undefined {
    const method = byPath.get(path.slice(0, at));
    if (!method?.hasNoSideEffects) return undefined;
    const { headers } = line;
    if (headers["content-type"] !== undefined || Number(headers["content-length"] ?? 0) > 0) return undefined;
    if (headers["transfer-encoding"] !== undefined) return undefined;
    const query = new URLSearchParams(path.slice(at));
    const encoding = query.get("encoding");
    const codec = encoding === "json" ? connectJson : encoding === "proto" ? connectProto : undefined;
    const message = messageOf(query);
    if (codec === undefined || message === undefined) return undefined;
    return readRest(line, method, codec, message);
  }

  function readRest(
    { headers, rawHeaders }: RequestLine,
    method: LeanMethod,
    codec: Codec,
    query: Uint8Array | undefined,
  ): LeanRequestHead | undefined {
    const timeout = readTimeout(codec, headers);
    if (
      timeout === "odd" ||
      headers.expect !== undefined ||
      headers[codec.otherTimeoutHeader] !== undefined
    ) {
      return undefined;
    }
    // Node keeps the first of two, which are to be refused when they differ.
    if (headers.authorization !== undefined && count(rawHeaders, "authorization") > 1) return undefined;
    const accepted = headers[codec.acceptEncodingHeader];
    const compression = typeof accepted === "string" && accepted !== "" ? compressions(accepted) : null;
    const requestMethod = query === undefined ? "POST" : "GET";
    const credential = undefined;
    return {
      method,
      codec,
      requestMethod,
      headers,
      timeoutMs: timeout.timeoutMs,
      compression,
      query,
      credential,
    };
  }

  return (line) => {
    const { path, verb, authority } = line;
    if (path === undefined || authority === undefined) return undefined;
    if (verb === "POST") {
      const method = byPath.get(path);
      return method === undefined || !authorities(authority) ? undefined : readPost(line, method);
    }
    const at = verb === "GET" && !path.includes("#") ? path.indexOf("?") : -1;
    return at < 0 || !authorities(authority) ? undefined : readGet(line, path, at);
  };
}

/** Undefined: it is compressed, or not the base64 that it says. */
function messageOf(query: URLSearchParams): Uint8Array | undefined {
  const compression = query.get("compression");
  if (compression !== null && compression !== "identity") return undefined;
  const message = query.get("message") ?? "";
  if (query.get("base64") !== "1") return new TextEncoder().encode(message);
  try {
    return base64Decode(message);
  } catch {
    return undefined;
  }
}

function isAuthority(authority: string): boolean {
  return URL.canParse(`http://${authority}`);
}

function count(rawHeaders: readonly string[], name: string): number {
  let found = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const raw = rawHeaders[i] ?? "";
    if (raw.length === name.length && raw.toLowerCase() === name) found++;
  }
  return found;
}

/** Remembers answers for the first so many texts: nearly all requests have the same few. */
function createMemo<T>(answer: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const found = answer(text);
    if (known.size < mostKnown && text.length <= 256) known.set(text, found);
    return found;
  };
}
