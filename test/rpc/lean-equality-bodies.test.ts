/** However a body comes, whole, in pieces, compressed, too long or wrong, the lean unary path takes or refuses it as stock Connect does. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { ask } from "./equality/behaviours.ts";
import {
  build,
  encode,
  enveloped,
  frame,
  inText,
  type Protocol,
  protocols,
  usual,
} from "./equality/calls.ts";
import { maxMessageBytes, type Pair, startPair } from "./equality/pair.ts";
import type { Fields, Request } from "./equality/wire.ts";

let pair: Pair;
before(async () => {
  pair = await startPair();
});
after(() => pair.close());

const withBody = protocols.filter(({ kind }) => kind !== "get");
const framed = withBody.filter(enveloped);
const bare = withBody.filter((protocol) => !enveloped(protocol));
const message = { text: "héllo", big: 12345678901n, list: ["a", "b"], counts: { x: 1 } };

type Change = (protocol: Protocol, request: Request, bytes: Buffer) => Partial<Request>;

/** Compares a call in each protocol whose body, or what is said of it, is changed. */
function cases(group: string, among: readonly Protocol[], all: Record<string, Change>): void {
  for (const [name, change] of Object.entries(all)) {
    test(`${group}: ${name}`, () =>
      pair.compareAll(
        among.map((protocol) => {
          const request = build(protocol, { message });
          const changed = { ...request, ...change(protocol, request, encode(protocol, message)) };
          return [`${group}: ${name}, ${protocol.name}`, changed] as const;
        }),
      ));
  }
}

const whole = (request: Request) => Buffer.concat(request.body ?? []);
const byteByByte = (bytes: Buffer) => Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));
/** A body of gRPC or gRPC-Web, as text where that is the protocol. */
const body = (protocol: Protocol, ...parts: Buffer[]) => ({
  body: [inText(protocol.kind, Buffer.concat(parts))],
});

for (const protocol of withBody) {
  test(`pieces: cut in two at every byte, ${protocol.name}`, async () => {
    const request = build(protocol, { message });
    const bytes = whole(request);
    await pair.compareAll(
      Array.from(
        { length: bytes.length + 1 },
        (_, at) =>
          [
            `cut at ${at}, ${protocol.name}`,
            { ...request, body: [bytes.subarray(0, at), bytes.subarray(at)] },
          ] as const,
      ),
    );
  });
}

cases("pieces", withBody, {
  "one byte each": (_, request) => ({ body: byteByByte(whole(request)) }),
  "one byte each, in chunks": (_, request) => ({ framing: "chunked", body: byteByByte(whole(request)) }),
  "in one chunk": () => ({ framing: "chunked" }),
  "with an empty piece": (_, request) => ({ body: [Buffer.alloc(0), whole(request), Buffer.alloc(0)] }),
  "with trailers": () => ({
    framing: "chunked",
    trailers: [
      ["x-trailer", "1"],
      ["grpc-status", "3"],
    ],
  }),
});

cases("frames", framed, {
  none: (protocol) => body(protocol),
  "no body": () => ({ body: undefined as never, framing: "none" }),
  empty: (protocol) => body(protocol, frame(Buffer.alloc(0))),
  two: (protocol, _, bytes) => body(protocol, frame(bytes), frame(bytes)),
  "two, the second empty": (protocol, _, bytes) => body(protocol, frame(bytes), frame(Buffer.alloc(0))),
  "two, the second broken": (protocol, _, bytes) =>
    body(protocol, frame(bytes), frame(Buffer.from("broken"))),
  "two, the second cut off": (protocol, _, bytes) =>
    body(protocol, frame(bytes), frame(bytes).subarray(0, 7)),
  "bytes after it": (protocol, _, bytes) => body(protocol, frame(bytes), Buffer.from([1, 2, 3])),
  "a head after it": (protocol, _, bytes) => body(protocol, frame(bytes), Buffer.from([0, 0, 0, 0, 5])),
  "cut off in its head": (protocol, _, bytes) => body(protocol, frame(bytes).subarray(0, 3)),
  "cut off after its head": (protocol, _, bytes) => body(protocol, frame(bytes).subarray(0, 5)),
  "cut off before its last byte": (protocol, _, bytes) => body(protocol, frame(bytes).subarray(0, -1)),
  "a length too short": (protocol, _, bytes) => body(protocol, frame(bytes, 0, bytes.length - 1)),
  "a length of 0": (protocol, _, bytes) => body(protocol, frame(bytes, 0, 0)),
  "a length too long": (protocol, _, bytes) => body(protocol, frame(bytes, 0, bytes.length + 1)),
  "a length far too long": (protocol, _, bytes) => body(protocol, frame(bytes, 0, 2 ** 32 - 1)),
  "a length above the limit": (protocol, _, bytes) => body(protocol, frame(bytes, 0, maxMessageBytes + 1)),
  "no message": (protocol) => body(protocol, frame(Buffer.from("no message at all"))),
  "a message that ends early": (protocol, _, bytes) => body(protocol, frame(bytes.subarray(0, -2))),
  ...Object.fromEntries(
    [1, 2, 3, 4, 0x40, 0x80, 0x81, 0xff].map((flags): [string, Change] => [
      `flags ${flags}`,
      (protocol, _, bytes) => body(protocol, frame(bytes, flags)),
    ]),
  ),
  "an end of its own after it": (protocol, _, bytes) =>
    body(protocol, frame(bytes), frame(Buffer.from("grpc-status: 0\r\n"), 0x80)),
  "an end of Connect's after it": (protocol, _, bytes) =>
    body(protocol, frame(bytes), frame(Buffer.from("{}"), 2)),
});

cases(
  "text",
  protocols.filter(({ kind }) => kind === "grpc-web-text"),
  {
    "not base64": () => ({ body: [Buffer.from("!!!!")] }),
    "with line breaks": (_, request) => ({
      body: [
        Buffer.from(
          whole(request)
            .toString()
            .replace(/(.{10})/g, "$1\r\n"),
        ),
      ],
    }),
    unpadded: (_, request) => ({ body: [Buffer.from(whole(request).toString().replace(/=+$/, ""))] }),
    "in two parts, both padded": (_, __, bytes) => ({
      body: [
        Buffer.from(frame(bytes).subarray(0, 5).toString("base64")),
        Buffer.from(frame(bytes).subarray(5).toString("base64")),
      ],
    }),
    "for the web": (_, request) => ({ body: [Buffer.from(whole(request).toString("base64url"))] }),
    "not text": (_, __, bytes) => ({ body: [frame(bytes)] }),
  },
);

cases("bare", bare, {
  none: () => ({ body: [] }),
  "no body": () => ({ body: undefined as never, framing: "none" }),
  "no message": () => ({ body: [Buffer.from("no message at all")] }),
  "a byte order mark": (_, __, bytes) => ({ body: [Buffer.concat([Buffer.from("\ufeff"), bytes])] }),
  "bytes that are no UTF-8": () => ({ body: [Buffer.from('{"text":"\xff\xfe"}', "latin1")] }),
  "a lone surrogate": () => ({ body: [Buffer.from('{"text":"\\ud800"}')] }),
  "an unknown field": () => ({ body: [Buffer.from('{"text":"a","other":1}')] }),
  "an unknown field in binary": () => ({ body: [Buffer.from([0xfa, 0x01, 0x01, 0x41])] }),
  "an unknown enum": () => ({ body: [Buffer.from('{"kind":"KIND_OTHER"}')] }),
  null: () => ({ body: [Buffer.from("null")] }),
  "an array": () => ({ body: [Buffer.from("[]")] }),
  "a number": () => ({ body: [Buffer.from("5")] }),
  "a field twice": () => ({ body: [Buffer.from('{"text":"a","text":"b"}')] }),
  "proto names": () => ({ body: [Buffer.from('{"big":"1","time":"2026-01-01T00:00:00Z","wrapped":"5"}')] }),
  "a bad time": () => ({ body: [Buffer.from('{"time":"yesterday"}')] }),
  "an any": () => ({
    body: [Buffer.from('{"any":{"@type":"type.googleapis.com/test.equality.Everything"}}')],
  }),
  "an unknown any": () => ({ body: [Buffer.from('{"any":{"@type":"type.googleapis.com/no.Such"}}')] }),
  "a prototype": () => ({
    body: [Buffer.from('{"__proto__":{"text":"p"},"counts":{"__proto__":1,"constructor":2}}')],
  }),
  "deep nesting": () => ({ body: [Buffer.from(`${'{"inner":'.repeat(200)}{}${"}".repeat(200)}`)] }),
  "deep nesting in binary": () => ({ body: [nested(150)] }),
});

function nested(depth: number): Buffer {
  let inner: Buffer = Buffer.alloc(0);
  for (let i = 0; i < depth; i++) inner = Buffer.concat([Buffer.from([0x52]), varint(inner.length), inner]);
  return inner;
}

function varint(n: number): Buffer {
  return n < 128 ? Buffer.from([n]) : Buffer.from([(n & 127) | 128, n >> 7]);
}

const encodings: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: (bytes) => gzipSync(bytes),
  br: (bytes) => brotliCompressSync(bytes),
  identity: (bytes) => bytes,
  deflate: (bytes) => deflateSync(bytes),
  snappy: (bytes) => bytes,
  "": (bytes) => bytes,
  GZIP: (bytes) => gzipSync(bytes),
  "gzip, br": (bytes) => gzipSync(bytes),
};
const encodingHeader = (protocol: Protocol) => (enveloped(protocol) ? "grpc-encoding" : "content-encoding");
const add = (request: Request, ...headers: Fields): Pick<Request, "headers"> => ({
  headers: [...request.headers, ...headers],
});

for (const [name, compress] of Object.entries(encodings)) {
  cases(`encoding ${JSON.stringify(name)}`, withBody, {
    "the message is so": (protocol, request, bytes) => ({
      ...add(request, [encodingHeader(protocol), name]),
      ...(enveloped(protocol) ? body(protocol, frame(compress(bytes), 1)) : { body: [compress(bytes)] }),
    }),
    "the message is not": (protocol, request) => add(request, [encodingHeader(protocol), name]),
    "the message is broken": (protocol, request, bytes) => ({
      ...add(request, [encodingHeader(protocol), name]),
      ...(enveloped(protocol)
        ? body(protocol, frame(compress(bytes).subarray(1), 1))
        : { body: [compress(bytes).subarray(1)] }),
    }),
    "the message inflates beyond the limit": (protocol, request) => {
      const bomb = compress(Buffer.alloc(4 * maxMessageBytes));
      return {
        ...add(request, [encodingHeader(protocol), name]),
        ...(enveloped(protocol) ? body(protocol, frame(bomb, 1)) : { body: [bomb] }),
      };
    },
  });
}
cases("encoding", framed, {
  "the stream is so": (_, request) => add(request, ["content-encoding", "gzip"]),
  "flag without the header": (protocol, _, bytes) => body(protocol, frame(gzipSync(bytes), 1)),
});

for (const accepted of [
  "gzip",
  "br",
  "identity",
  "snappy",
  "gzip, br",
  "br,gzip",
  "snappy, gzip;q=0.5",
  "*",
  "GZIP",
  "",
  " , ",
  "gzip,,br",
]) {
  for (const [size, behaviour] of [
    ["small", "echo"],
    ["large", "a kilobyte"],
    ["erroneous", "throw many details"],
    ["of a kilobyte less", "just not a kilobyte"],
  ] as const) {
    test(`accepted encoding ${JSON.stringify(accepted)}: an answer that is ${size}`, async () => {
      await pair.compareAll(
        [...usual, ...framed].flatMap((protocol) => {
          const plain = build(protocol, { message: { text: ask(behaviour) } });
          return ["grpc-accept-encoding", "accept-encoding", "connect-accept-encoding"].map(
            (header) =>
              [
                `${header} ${accepted}, ${behaviour}, ${protocol.name}`,
                { ...plain, ...add(plain, [header, accepted]) },
              ] as const,
          );
        }),
      );
    });
  }
}

/** A text that makes a message of so many bytes. */
const textOf = (protocol: Protocol, bytes: number) =>
  "t".repeat(bytes - (protocol.codec === "json" ? '{"text":""}'.length : 3));
for (const over of [-1, 0, 1, 2, 5, 6, 100, 4 * maxMessageBytes]) {
  const size = maxMessageBytes + over;
  cases(`${size} bytes, where ${maxMessageBytes} are allowed`, withBody, {
    whole: (protocol) => ({
      body: build(protocol, { message: { text: textOf(protocol, size) } }).body ?? [],
    }),
    "in chunks": (protocol) => ({
      framing: "chunked",
      body: build(protocol, { message: { text: textOf(protocol, size) } }).body ?? [],
    }),
    "in pieces": (protocol) => {
      const bytes = whole(build(protocol, { message: { text: textOf(protocol, size) } }));
      return { body: [bytes.subarray(0, 4000), bytes.subarray(4000, 8000), bytes.subarray(8000)] };
    },
    "of spaces around it": (protocol, request) =>
      protocol.codec === "json" && !enveloped(protocol)
        ? { body: [Buffer.concat([Buffer.alloc(size - whole(request).length, " "), whole(request)])] }
        : {},
  });
}

cases("lengths", withBody, {
  "announced beyond the limit": (_, request) => ({
    framing: "none",
    ...add(request, ["content-length", String(whole(request).length)], ["x-length", "1"]),
  }),
  "of a body that is not there": (_, request) => ({
    framing: "none",
    body: [],
    ...add(request, ["content-length", "0"]),
  }),
});

for (const version of ["1.1", "2"] as const) {
  test(`expect: 100-continue is answered once the body is wanted, HTTP/${version}`, () =>
    pair.compareAll(
      withBody
        .filter((protocol) => protocol.version === version)
        .flatMap((protocol) =>
          (["Call", "Staff"] as const).map((method) => {
            const request = build(protocol, { method, message, headers: [["expect", "100-continue"]] });
            return [`expect, ${method}, ${protocol.name}`, request] as const;
          }),
        ),
    ));
}

test("both log the same of all of it", async () => {
  const rows = await pair.compareRows();
  assert.ok(rows > 500, `${rows} requests were logged`);
});
