/** Whether an HTTP/1.1 connection is kept, closed or becomes another, and what is expected of it before the body, is the same with and without the lean path. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chunks, json, latin1, type Maker, type Parts, path } from "./bytes.ts";
import { type Steps, startTwins, type Table, type Twins } from "./twins.ts";

let twins: Twins;
before(async () => {
  twins = await startTwins();
});
after(() => twins.pair.close());

const one = Buffer.concat;
const known = path("Known");

/** Who asks, and how: each is sent alone, and another request when it is answered. */
const callers: Record<string, (m: Maker, parts: Parts) => Buffer> = {
  "a call": (m, parts) => m.post(parts),
  "a denied call": (m, parts) => m.post({ path: known, ...parts }),
  "a failing call": (m, parts) => m.post({ body: json("all: throw NotFound"), ...parts }),
  "a GET": (m, parts) => m.get(parts),
  "no RPC": (m, parts) => m.head(parts),
  "a path that is none": (m, parts) => m.post({ path: "/nowhere", ...parts }),
};

function table(values: readonly (readonly [name: string, parts: Parts])[]): Table {
  return Object.fromEntries(
    values.flatMap(([name, parts]) =>
      Object.entries(callers).map(([caller, make]) => [
        `${caller}, ${name}`,
        [undefined, (m: Maker) => [m.post(), 1, make(m, parts), "settle", m.post(), "settle", m.get()]],
      ]),
    ),
  );
}

const options = [
  ..."close|keep-alive|Close|CLOSE|Keep-Alive|KEEP-ALIVE|closed|xclose|close x|keepalive|keep_alive".split(
    "|",
  ),
  ..."keep-alive, x|x, keep-alive|close, x|x, close|keep-alive, close|close, keep-alive|close,|,close|,".split(
    "|",
  ),
  ...'keep-alive,close|close;q=1|"close"|upgrade|Upgrade|TE|te, close|upgrade, keep-alive|x|x-foo'.split("|"),
  ..."keep-alive, keep-alive|proxy-connection|host|content-length|transfer-encoding|x-api-key|connection|".split(
    "|",
  ),
  ...[
    "  close  ",
    "\tclose",
    "close\t",
    "close\v",
    "c lose",
    "clo\0se",
    "\xe9",
    "k".repeat(300),
    `${"x, ".repeat(100)}close`,
  ],
];
test("Connection", () =>
  twins.compareAll(
    "connection",
    table(options.map((value) => [JSON.stringify(value.slice(0, 40)), { fields: [`Connection: ${value}`] }])),
  ));

test("Connection over HTTP/1.0, where it is the other way round", () =>
  twins.compareAll(
    "connection of 1.0",
    table(
      ["close", "keep-alive", "Keep-Alive, x", "x", undefined].map((value) => [
        String(value),
        { version: "HTTP/1.0", fields: value === undefined ? [] : [`Connection: ${value}`] },
      ]),
    ),
  ));

test("fields about the connection", () =>
  twins.compareAll(
    "about the connection",
    table(
      [
        ["Keep-Alive: timeout=5, max=100"],
        ["Connection: keep-alive", "Keep-Alive: timeout=1"],
        ["Connection: keep-alive", "Connection: close"],
        ["Connection: close", "Connection: keep-alive"],
        ["Connection: close", "Connection: x"],
        ["Proxy-Connection: close"],
        ["Proxy-Connection: keep-alive"],
        ["Connection: X-Api-Key", "X-Api-Key: nonsense"],
        ["Connection : close"],
        ["Conection: close"],
        ["Connection: close", "Keep-Alive: timeout=5"],
      ].map((fields) => [fields.join("; "), { fields }]),
    ),
  ));

test("a connection is closed where it was said to be, whatever else came with it", () =>
  twins.compareAll("pipelined behind close", {
    "a good one": ["400 closed", (m) => [one([m.post({ fields: ["Connection: close"] }), m.post()])], 1],
    "a good one behind a GET": [
      "400 closed",
      (m) => [one([m.get({ fields: ["Connection: close"] }), m.post()])],
      1,
    ],
    "half of one": [
      "400 closed",
      (m) => [one([m.post({ fields: ["Connection: close"] }), m.post().subarray(0, 40)])],
      1,
    ],
    garbage: ["400 closed", (m) => [one([m.post({ fields: ["Connection: close"] }), latin1("x")])], 1],
    "an empty line": [
      "200 closed",
      (m) => [one([m.post({ fields: ["Connection: close"] }), latin1("\r\n")])],
      1,
    ],
    nothing: ["200 closed", (m) => [m.post({ fields: ["Connection: close"] })]],
    "nothing, the last of three": [
      "200 200 200 closed",
      (m) => [one([m.post(), m.get(), m.post({ fields: ["Connection: close"] })])],
    ],
    "nothing, byte by byte": [
      "200 closed",
      (m) => Array.from(m.post({ fields: ["Connection: close"] }), (byte) => Buffer.from([byte])),
    ],
    "nothing, behind a late one": [
      "200 200 closed",
      (m) => [one([m.post({ body: json("all: echo later") }), m.post({ fields: ["Connection: close"] })])],
    ],
  }));

test("Upgrade", () =>
  twins.compareAll(
    "upgrade",
    table(
      [
        ["Connection: Upgrade", "Upgrade: h2c"],
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"],
        ["Connection: keep-alive, Upgrade", "Upgrade: foo/2"],
        ["Upgrade: h2c"],
        ["Connection: Upgrade"],
        ["Connection: Upgrade", "Upgrade:"],
        ["Connection: close", "Upgrade: h2c"],
        ["Connection: upgrade", "upgrade: TLS/1.0, HTTP/1.1"],
        ["Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket"],
      ].map((fields) => [fields.join("; "), { fields }]),
    ),
  ));

test("Expect", () =>
  twins.compareAll(
    "expect",
    table(
      [
        ...[
          "100-continue",
          "100-Continue",
          "100-CONTINUE",
          "200-ok",
          "100-continue, x",
          "x, 100-continue",
          "",
          "x",
          "100",
        ],
        ...["100-continue;q=1", " 100-continue ", "100continue", "\xe9"],
      ].map((value) => [JSON.stringify(value), { fields: [`Expect: ${value}`] }]),
    ),
  ));

/** A head that asks to be told to go on, and the body when it has been, or not. */
const expecting =
  (parts: Parts): Steps =>
  (m) => {
    const bytes = m.post({ ...parts, fields: ["Expect: 100-continue", ...(parts.fields ?? [])] });
    const at = bytes.indexOf("\r\n\r\n") + 4;
    return [bytes.subarray(0, at), "settle", bytes.subarray(at), "settle", m.post()];
  };

test("who waits for 100 Continue is told to go on, or refused before the body is sent", () =>
  twins.compareAll("100", {
    "a call": ["100 200 200", expecting({})],
    "a denied call": ["401 closed", expecting({ path: known })],
    "a call of a path that is none": ["404 closed", expecting({ path: "/nowhere" })],
    "a large call": ["100 200 200", expecting({ body: json("l".repeat(7000)) })],
    "a call above the limit": ["429 closed", expecting({ body: json("l".repeat(9000)) })],
    "a call without a body": ["400 closed", expecting({ body: "" })],
    "a call in chunks": [
      "100 200 200",
      expecting({ length: null, fields: ["Transfer-Encoding: chunked"], body: chunks(json("hello")) }),
    ],
    "a denied call in chunks": [
      "401 closed",
      expecting({
        path: known,
        length: null,
        fields: ["Transfer-Encoding: chunked"],
        body: chunks(json("hello")),
      }),
    ],
    "a gRPC-Web call": [
      "100 200 200",
      expecting({
        type: "application/grpc-web+json",
        body: Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]),
      }),
    ],
    "a stream": [
      "100 200 200",
      expecting({
        path: path("Down"),
        type: "application/connect+json",
        body: Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]),
      }),
    ],
    "of HTTP/1.0": ["200 closed", expecting({ version: "HTTP/1.0" })],
    "a body that does not wait": [
      "200 closed",
      (m) => [m.post({ fields: ["Expect: 100-continue"] }), "settle", m.post()],
    ],
    "behind a good one": [
      "200 200 closed",
      (m) => [one([m.post(), m.post({ fields: ["Expect: 100-continue"] })])],
    ],
    "before a good one": [
      "200 closed",
      (m) => [one([m.post({ fields: ["Expect: 100-continue"] }), m.post()])],
    ],
  }));

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(rows > 300, `${rows} connections' requests were logged`);
});
