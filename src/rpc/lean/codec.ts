/** The wire forms of unary RPCs that the lean path speaks. */
import type { IncomingHttpHeaders } from "node:http";

export interface Codec {
  readonly protocol: "grpc" | "grpc-web" | "connect";
  /** Protobuf's binary form; else its JSON. */
  readonly isBinary: boolean;
  /** Base64 of the bytes, both ways. */
  readonly isText: boolean;
  /** Messages stand in frames of five bytes and the message. */
  readonly isFramed: boolean;
  /** Of the answer, before it is made text. */
  readonly contentType: string;
  /** Names of headers. */
  readonly encodingHeader: string;
  readonly acceptEncodingHeader: string;
  readonly timeoutHeader: string;
}

const grpc = {
  protocol: "grpc",
  isFramed: true,
  encodingHeader: "grpc-encoding",
  acceptEncodingHeader: "grpc-accept-encoding",
  timeoutHeader: "grpc-timeout",
} as const;
const grpcWeb = { ...grpc, protocol: "grpc-web" } as const;
const connect = {
  protocol: "connect",
  isFramed: false,
  isText: false,
  encodingHeader: "content-encoding",
  acceptEncodingHeader: "accept-encoding",
  timeoutHeader: "connect-timeout-ms",
} as const;

const binary = { isBinary: true, isText: false };
const json = { isBinary: false, isText: false };
const grpcProto: Codec = { ...grpc, ...binary, contentType: "application/grpc+proto" };
const grpcJson: Codec = { ...grpc, ...json, contentType: "application/grpc+json" };
const webProto: Codec = { ...grpcWeb, ...binary, contentType: "application/grpc-web+proto" };
const webJson: Codec = { ...grpcWeb, ...json, contentType: "application/grpc-web+json" };
const textProto: Codec = { ...webProto, isText: true };
const textJson: Codec = { ...webJson, isText: true };
export const connectProto: Codec = { ...connect, ...binary, contentType: "application/proto" };
export const connectJson: Codec = { ...connect, ...json, contentType: "application/json" };

/** As clients write them; what is written otherwise is for Connect's handlers to judge. */
const byContentType: ReadonlyMap<string, Codec> = new Map([
  ["application/grpc", grpcProto],
  ["application/grpc+proto", grpcProto],
  ["application/grpc+json", grpcJson],
  ["application/grpc-web", webProto],
  ["application/grpc-web+proto", webProto],
  ["application/grpc-web+json", webJson],
  ["application/grpc-web-text", textProto],
  ["application/grpc-web-text+proto", textProto],
  ["application/grpc-web-text+json", textJson],
  ["application/proto", connectProto],
  ["application/json", connectJson],
  ["application/json; charset=utf-8", connectJson],
  ["application/json;charset=utf-8", connectJson],
]);

/** The codec of a POST; undefined: none of these. */
export function codecOf(contentType: string | undefined): Codec | undefined {
  return contentType === undefined ? undefined : byContentType.get(contentType);
}

/** A client's deadline. */
export type Timeout =
  /** In milliseconds, more than 0; undefined: none. */
  | { readonly timeoutMs: number | undefined }
  /** Malformed, passed already, or beyond what a timer takes. */
  | "odd";

const none: Timeout = { timeoutMs: undefined };
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
const maxTimerMs = 2 ** 31 - 1;

/** Reads a client's deadline (gRPC over HTTP/2, "Timeout"; Connect protocol, "Connect-Timeout-Ms"). */
export function readTimeout(codec: Codec, headers: IncomingHttpHeaders): Timeout {
  const value = headers[codec.timeoutHeader];
  if (value === undefined) return none;
  if (typeof value !== "string") return "odd";
  const timeoutMs = codec.isFramed ? grpcTimeoutMs(value) : connectTimeoutMs(value);
  return timeoutMs > 0 && timeoutMs <= maxTimerMs ? { timeoutMs } : "odd";
}

function grpcTimeoutMs(value: string): number {
  const [, digits, unit = ""] = /^(\d{1,8})([HMSmun])$/.exec(value) ?? [];
  return Number(digits) * (unitMs[unit] ?? Number.NaN);
}

function connectTimeoutMs(value: string): number {
  return /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
}
