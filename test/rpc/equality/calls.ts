/** Calls as they should be, in each protocol; what is odd or broken is made of them. */
import { create, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { EverythingSchema, registry } from "./services.ts";
import type { Fields, Request } from "./wire.ts";

export type Init = MessageInitShape<typeof EverythingSchema>;

export interface Call {
  readonly service?: "Echo" | "Intercepted" | "Configured";
  readonly method?: string;
  readonly message?: Init;
  readonly headers?: Fields;
}

export interface Protocol {
  readonly name: string;
  readonly version: "1.1" | "2";
  readonly kind: "grpc" | "grpc-web" | "grpc-web-text" | "connect" | "get";
  readonly codec: "proto" | "json";
}

const of = (kind: Protocol["kind"], version: Protocol["version"], codec: Protocol["codec"]): Protocol => ({
  name: `${kind} ${codec} over HTTP/${version}`,
  kind,
  version,
  codec,
});

/** All of them, gRPC over HTTP/1.1 too, which nobody should speak. */
export const protocols: readonly Protocol[] = (
  ["grpc", "grpc-web", "grpc-web-text", "connect", "get"] as const
).flatMap((kind) => [
  of(kind, "1.1", "proto"),
  of(kind, "1.1", "json"),
  of(kind, "2", "proto"),
  of(kind, "2", "json"),
]);

/** One of each kind, as clients most often speak it. */
export const usual: readonly Protocol[] = [
  of("grpc", "2", "proto"),
  of("grpc-web", "1.1", "proto"),
  of("connect", "1.1", "json"),
  of("connect", "2", "proto"),
  of("get", "1.1", "json"),
];

export const enveloped = ({ kind }: Protocol) => kind !== "connect" && kind !== "get";

/** The flag, length and message of gRPC and gRPC-Web; the length is that of the message unless it is given. */
export function frame(message: Uint8Array, flags = 0, length = message.length): Buffer {
  const head = Buffer.from([flags, 0, 0, 0, 0]);
  head.writeUInt32BE(length >>> 0, 1);
  return Buffer.concat([head, message]);
}

export function encode({ codec }: Protocol, message: Init): Buffer {
  const whole = create(EverythingSchema, message);
  return Buffer.from(
    codec === "proto"
      ? toBinary(EverythingSchema, whole)
      : toJsonString(EverythingSchema, whole, { registry }),
  );
}

export function typeOf({ kind, codec }: Protocol): string {
  if (kind === "connect") return `application/${codec}`;
  return `application/${kind}${codec === "proto" ? "" : "+json"}`;
}

export function pathOf({ service = "Echo", method = "Call" }: Call): string {
  return `/test.equality.${service}/${method}`;
}

/** A request that calls. */
export function build(protocol: Protocol, call: Call = {}): Request {
  const { headers = [], message = {} } = call;
  const bytes = encode(protocol, message);
  if (protocol.kind === "get") return get(protocol, { ...call, method: call.method ?? "Get" }, bytes);
  const te: Fields = protocol.kind === "grpc" ? [["te", "trailers"]] : [];
  return {
    version: protocol.version,
    method: "POST",
    path: pathOf(call),
    headers: [["content-type", typeOf(protocol)], ...te, ...headers],
    body: [bodyOf(protocol, bytes)],
  };
}

/** A message as the body of a request. */
export function bodyOf({ kind }: Protocol, message: Uint8Array): Buffer {
  if (kind === "connect") return Buffer.from(message);
  return inText(kind, frame(message));
}

/** What goes over the wire for the bytes of a body. */
export function inText(kind: Protocol["kind"], body: Buffer): Buffer {
  return kind === "grpc-web-text" ? Buffer.from(body.toString("base64")) : body;
}

function get({ version, codec }: Protocol, call: Call, message: Buffer): Request {
  const query = new URLSearchParams({ connect: "v1", encoding: codec });
  if (codec === "proto") query.set("base64", "1");
  query.set("message", codec === "proto" ? message.toString("base64url") : message.toString());
  return { version, method: "GET", path: `${pathOf(call)}?${query}`, headers: call.headers ?? [] };
}
