/** A request of every protocol as it should be, and what becomes of it. */
import { gzipSync } from "node:zlib";
import { mutate, pick, type Random } from "./fuzz.ts";

export const staffOnly = "/latchkey.v1.UserAdminService/ListUsers";
export const envelope = (flags: number, body: Buffer, length = body.length) => {
  const head = Buffer.from([flags, 0, 0, 0, 0]);
  head.writeUInt32BE(length >>> 0, 1);
  return Buffer.concat([head, body]);
};
export const get = "/api.users.UserService/GetUser";
export const message = Buffer.from([8, 1]);
const trailer = envelope(0x80, Buffer.from("grpc-status: 0\r\n"));

export interface Request {
  readonly verb: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

const post = (path: string, type: string, body: Buffer, headers = {}): Request => ({
  verb: "POST",
  path,
  headers: { "content-type": type, ...headers },
  body,
});
const json = (text: string) => Buffer.from(text);
const query = (text: string) => ({ verb: "GET", path: `${get}?${text}`, headers: {}, body: Buffer.alloc(0) });

/** Each protocol as it should be; mutations of them are what is sent. */
export const corpus: readonly Request[] = [
  post(get, "application/grpc", envelope(0, message), { te: "trailers" }),
  post(get, "application/grpc+proto", envelope(1, gzipSync(message)), {
    "grpc-encoding": "gzip",
    "grpc-timeout": "5S",
  }),
  post(get, "application/grpc+json", envelope(0, json('{"userId":"1"}'))),
  post(get, "application/grpc-web", envelope(0, message)),
  post(get, "application/grpc-web+proto", Buffer.concat([envelope(0, message), trailer]), {
    "x-grpc-web": "1",
  }),
  post(get, "application/grpc-web-text", Buffer.from(envelope(0, message).toString("base64"))),
  post(get, "application/json", json('{"userId":"1"}'), {
    "connect-protocol-version": "1",
    "connect-timeout-ms": "5000",
  }),
  post(get, "application/json", gzipSync('{"userId":1}'), { "content-encoding": "gzip" }),
  post(get, "application/proto", message),
  post("/api.users.UserService/ListUsers", "application/connect+json", envelope(0, json('{"limit":1}'))),
  post("/api.users.UserService/ListUsers", "application/connect+proto", envelope(0, Buffer.from([8, 1]))),
  post("/api.users.UserService/ListUsers", "application/grpc", envelope(0, Buffer.from([8, 1]))),
  post(
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "application/grpc",
    envelope(0, Buffer.from([58, 0])),
  ),
  post("/grpc.health.v1.Health/Check", "application/grpc", envelope(0, Buffer.alloc(0))),
  post(staffOnly, "application/json", json("{}")),
  post(
    "/latchkey.v1.ApiKeyService/ListApiKeys",
    "application/json",
    json('{"pageToken":"WyJhIl0","filter":{}}'),
  ),
  query("connect=v1&encoding=json&message=%7B%22userId%22%3A%221%22%7D"),
  query("connect=v1&encoding=proto&base64=1&message=CAE&compression=identity"),
];
const types = [
  ...new Set(corpus.map(({ headers }) => headers["content-type"] ?? "?")),
  "application/grpc+thrift",
  "text/plain",
];
const names = [
  ...[
    "content-type",
    "content-encoding",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-timeout",
    "connect-timeout-ms",
  ],
  ...[
    "connect-protocol-version",
    "authorization",
    "x-api-key",
    "x-forwarded-for",
    "x-request-id",
    "user-agent",
    "accept",
  ],
  ...["accept-encoding", "te", "expect", "origin", "x-user-agent", "connect-accept-encoding"],
];
const values = [
  ...types,
  "gzip",
  "br",
  "identity",
  "5S",
  "100",
  "trailers",
  "1",
  "203.0.113.7, 127.0.0.1",
  "Bearer x",
];

export function mutant(random: Random, tokens: readonly string[]): Request {
  const original = pick(random, corpus);
  const headers: Record<string, string> = { ...original.headers };
  const text = (from: string) =>
    mutate(random, from, values)
      .replace(/[^\x20-\x7e\x80-\xff]/g, "")
      .trim();
  if (random() < 0.5) headers[pick(random, names)] = text(pick(random, values));
  if (random() < 0.2)
    headers["content-type"] = random() < 0.5 ? pick(random, types) : text(pick(random, types));
  if (random() < 0.3)
    headers["x-api-key"] = random() < 0.5 ? pick(random, tokens) : text(pick(random, tokens));
  const body =
    random() < 0.7
      ? Buffer.from(
          mutate(random, original.body.toString("latin1"), [
            original.body.toString("latin1"),
            "{}",
            "\0\0\0\0\0",
          ]),
          "latin1",
        )
      : original.body;
  const path = random() < 0.1 ? `/${text(original.path.slice(1)).replace(/[\s#]/g, "")}` : original.path;
  const verb = random() < 0.03 ? pick(random, ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"]) : original.verb;
  return {
    verb,
    path: path.replace(/[^\x21-\x7e]/g, ""),
    headers,
    body: verb === "GET" ? Buffer.alloc(0) : body,
  };
}
