/** Answers of the lean path, in the words of each protocol. */
import type { OutgoingHttpHeaders } from "node:http";
import type { ConnectError } from "@connectrpc/connect";
import { type Compression, mergeNonProtocolHeaders } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import { dropConnectionFields } from "../connection-fields.ts";
import { encodeText, textContentType } from "../grpc-web-text.ts";
import { type Codec, connectJson } from "./codec.ts";

/** What is written, whichever HTTP version writes it. */
export interface LeanAnswer {
  readonly status: number;
  /** All of the answer's own; undefined: the content type, and what is named here, alone. */
  readonly header: Headers | undefined;
  readonly contentType: string;
  /** Of a framed answer, where messages of it may be compressed. */
  readonly encoding: string | undefined;
  /** gRPC's trailers, where they say more than ok. */
  readonly trailer: Headers | undefined;
  /** A text is written in one piece with the headers, over HTTP/1.1. */
  readonly body: Uint8Array | string | undefined;
  /** Bytes that the body stands for: fewer than it has, where it is text. */
  readonly bytes: number;
}

/** Headers of Node's, by name. */
export type HookHeaders = Readonly<Record<string, number | string | string[] | undefined>>;

/** All headers of an answer. `hookHeaders`: those that hooks of Fastify's have set, which an answer's own stand above. */
export function headersOf(
  answer: LeanAnswer,
  codec: Codec,
  requestId: string,
  hookHeaders: HookHeaders | undefined,
): OutgoingHttpHeaders {
  // Answers depend on who asks, which a cache that sees a GET would not know.
  const own = { "x-request-id": requestId, "cache-control": "no-store" };
  if (answer.header !== undefined) return addAll({ ...hookHeaders, ...own }, answer.header);
  const headers: OutgoingHttpHeaders = {
    ...hookHeaders,
    ...own,
    "content-type": answer.contentType,
  };
  if (answer.encoding !== undefined) headers["grpc-encoding"] = answer.encoding;
  if (!codec.isFramed) headers["content-length"] = answer.bytes;
  return headers;
}

/** Adds headers to Node's. Only set-cookie comes more than once. */
export function addAll(target: OutgoingHttpHeaders, headers: Headers): OutgoingHttpHeaders {
  for (const [name, value] of headers) {
    const before = target[name];
    target[name] =
      name === "set-cookie" && before !== undefined ? [...[before].flat().map(String), value] : value;
  }
  return target;
}

/** What handlers and interceptors have set; undefined where they touched nothing. */
export interface Metadata {
  /** With the content type. */
  readonly header: Headers | undefined;
  readonly trailer: Headers | undefined;
}

/** Below that a message is not worth compressing: Connect's own bound. */
const compressMinBytes = 1024;
const compressedFlag = 1;
const frameHeadBytes = 5;

/** What ends nearly every answer of gRPC-Web. */
const webOk = frame(trailerFlag, Buffer.from("grpc-status: 0\r\n"));

/** The answer with a message. A promise where it is compressed. */
export function answerMessage(
  codec: Codec,
  message: Uint8Array,
  metadata: Metadata,
  compression: Compression | null,
): LeanAnswer | Promise<LeanAnswer> {
  if (compression !== null && message.byteLength >= compressMinBytes) {
    return compression
      .compress(message)
      .then((compressed) =>
        codec.isFramed
          ? framed(codec, frame(compressedFlag, compressed), metadata, compression)
          : bare(codec, 200, compressed, metadata, compression),
      );
  }
  return codec.isFramed
    ? framed(codec, frame(0, message), metadata, compression)
    : bare(codec, 200, message, metadata, null);
}

/** The answer with an error. A promise where it is compressed. */
export function answerError(
  codec: Codec,
  error: ConnectError,
  metadata: Metadata,
  compression: Compression | null,
): LeanAnswer | Promise<LeanAnswer> {
  if (codec.isFramed) {
    const trailer = setTrailerStatus(metadata.trailer ?? new Headers(), error);
    return framed(codec, undefined, { ...metadata, trailer }, compression);
  }
  const header = metadata.header ?? new Headers();
  header.set("content-type", connectJson.contentType);
  // What was read from another server's wire is not passed on.
  if (!("isWireError" in error && error.isWireError)) mergeNonProtocolHeaders(header, error.metadata);
  const body = errorToJsonBytes(error, undefined);
  const status = codeToHttpStatus(error.code);
  const all = { header, trailer: metadata.trailer };
  if (compression === null || body.byteLength < compressMinBytes) return bare(codec, status, body, all, null);
  return compression.compress(body).then((compressed) => bare(codec, status, compressed, all, compression));
}

/** The answer with a message in JSON as it stands, of so many bytes. */
export function answerJson(codec: Codec, json: string, bytes: number, metadata: Metadata): LeanAnswer {
  return bare(codec, 200, json, metadata, null, bytes);
}

/** gRPC and gRPC-Web. */
function framed(
  codec: Codec,
  message: Buffer | undefined,
  { header, trailer }: Metadata,
  compression: Compression | null,
): LeanAnswer | Promise<LeanAnswer> {
  const contentType = codec.isText ? textContentType(codec.contentType) : codec.contentType;
  if (codec.isText) header?.set("content-type", textContentType(header.get("content-type") ?? ""));
  const encoding = compression?.name;
  dropConnectionFields(header);
  if (codec.protocol === "grpc") {
    dropConnectionFields(trailer);
    return {
      status: 200,
      header,
      contentType,
      encoding,
      trailer,
      body: message,
      bytes: message?.byteLength ?? 0,
    };
  }
  const finish = (end: Buffer): LeanAnswer => {
    const bytes = message === undefined ? end : Buffer.concat([message, end]);
    return {
      status: 200,
      header,
      contentType,
      encoding,
      trailer: undefined,
      body: codec.isText ? encodeText(bytes) : bytes,
      bytes: bytes.byteLength,
    };
  };
  if (trailer === undefined) return finish(webOk);
  const data = trailerSerialize(trailer);
  if (compression === null || data.byteLength < compressMinBytes) return finish(frame(trailerFlag, data));
  return compression
    .compress(data)
    .then((compressed) => finish(frame(trailerFlag | compressedFlag, compressed)));
}

/** Connect: the message is the body, trailers are headers. */
function bare(
  codec: Codec,
  status: number,
  body: Uint8Array | string,
  { header, trailer }: Metadata,
  compression: Compression | null,
  bytes = body.length,
): LeanAnswer {
  let all = header;
  if (trailer !== undefined || compression !== null) {
    all ??= new Headers({ "content-type": codec.contentType });
    if (compression !== null) all.set("content-encoding", compression.name);
    for (const [name, value] of trailer ?? []) all.append(`trailer-${name}`, value);
  }
  dropConnectionFields(all);
  all?.set("content-length", String(bytes));
  return {
    status,
    header: all,
    contentType: codec.contentType,
    encoding: undefined,
    trailer: undefined,
    body,
    bytes,
  };
}

function frame(flags: number, data: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeadBytes + data.byteLength);
  bytes[0] = flags;
  bytes.writeUInt32BE(data.byteLength, 1);
  bytes.set(data, frameHeadBytes);
  return bytes;
}
