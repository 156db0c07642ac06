/** However requests come over HTTP/1.1, cut anywhere, many at once or mixed with others, each is answered alike, in turn, with and without the lean path. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { byteByByte, chunks, cutAt, json, latin1, Maker, path } from "./bytes.ts";
import { type Step, type Steps, startTwins, type Table, type Twins } from "./twins.ts";

let twins: Twins;
before(async () => {
  twins = await startTwins();
});
after(() => twins.pair.close());

const key = () => `X-Api-Key: ${twins.pair.tokens.user}`;
const one = Buffer.concat;

/** Each kind of request that a connection may bring, and the status that it is answered with. */
const kinds: Record<string, readonly [status: number, (m: Maker) => Buffer]> = {
  good: [200, (m) => m.post()],
  "with a key": [200, (m) => m.post({ path: path("Known"), fields: [key()] })],
  late: [200, (m) => m.post({ body: json("all: echo later") })],
  denied: [401, (m) => m.post({ path: path("Known") })],
  "denied, with a bad key": [401, (m) => m.post({ fields: ["X-Api-Key: nonsense"] })],
  failing: [404, (m) => m.post({ body: json("all: throw NotFound") })],
  "no message": [400, (m) => m.post({ body: "{" })],
  "an unknown method": [404, (m) => m.post({ path: path("None") })],
  "an unknown path": [404, (m) => m.post({ path: "/nowhere" })],
  GET: [200, (m) => m.get()],
  "a GET that is denied": [401, (m) => m.get({ fields: ["Authorization: Bearer nonsense"] })],
  "a GET of a method that has effects": [
    405,
    (m) => m.get({ path: `${path("Call")}?encoding=json&message={}` }),
  ],
  "a stream": [
    200,
    (m) => m.post({ path: path("Down"), type: "application/connect+json", body: enveloped(json("s")) }),
  ],
  "gRPC-Web": [200, (m) => m.post({ type: "application/grpc-web+json", body: enveloped(json("w")) })],
  "gRPC-Web in text": [
    200,
    (m) => m.post({ type: "application/grpc-web-text+json", body: enveloped(json("t")).toString("base64") }),
  ],
  gRPC: [
    200,
    (m) => m.post({ type: "application/grpc+json", fields: ["TE: trailers"], body: enveloped(json("g")) }),
  ],
  "no RPC": [200, (m) => m.head()],
  "in chunks": [200, (m) => m.chunked()],
  "in many chunks": [200, (m) => m.chunked({}, chunks("{", '"text"', ":", '"hello"', "}"))],
  HEAD: [200, (m) => m.head({ method: "HEAD" })],
  OPTIONS: [405, (m) => m.head({ method: "OPTIONS", path: path("Call") })],
  "no length": [400, (m) => m.post({ length: null, body: "" })],
  "an empty body": [400, (m) => m.post({ body: "" })],
  "a large body": [200, (m) => m.post({ body: json("l".repeat(7000)) })],
  "a message above the limit": [429, (m) => m.post({ body: json("l".repeat(9000)) })],
  "two different hosts' worth of fields": [
    200,
    (m) => m.post({ fields: ["X-A: 1", "X-A: 2", "Cookie: a=1", "Cookie: b=2"] }),
  ],
};

function enveloped(message: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(message), 1);
  return Buffer.concat([head, Buffer.from(message)]);
}

const kindNames = Object.keys(kinds);
const make = (m: Maker, name: string) => kinds[name]?.[1](m) ?? Buffer.alloc(0);
const statuses = (names: readonly string[]) => names.map((name) => kinds[name]?.[0]).join(" ");
const inOne =
  (names: readonly string[]): Steps =>
  (m) => [one(names.map((name) => make(m, name)))];

function table(
  entries: Iterable<readonly [name: string, expected: string | undefined, steps: Steps]>,
): Table {
  return Object.fromEntries([...entries].map(([name, expected, steps]) => [name, [expected, steps]]));
}

test("each kind of request alone", () =>
  twins.compareAll("alone", table(kindNames.map((name) => [name, statuses([name]), inOne([name])]))));

test("each kind of request after a good one and before another, in one packet", () =>
  twins.compareAll(
    "amid, in one packet",
    table(
      kindNames.map((name) => {
        const all = ["good", name, "good"];
        return [name, statuses(all), inOne(all)];
      }),
    ),
  ));

test("each kind of request after a good one and before another, one after the other's answer", () =>
  twins.compareAll(
    "amid, in turn",
    table(
      kindNames.map((name) => {
        const all = ["good", name, "good", name, "good"];
        return [name, statuses(all), (m) => all.flatMap((each): Step[] => [make(m, each), "settle"])];
      }),
    ),
  ));

test("each kind of request after a good one, cut where the second begins, and within", () =>
  twins.compareAll(
    "cut",
    table(
      kindNames.flatMap((name) =>
        [0, 1, 4, 20, 60, 120].map((within) => [
          `${name}, ${within} bytes into it`,
          statuses(["good", name]),
          (m: Maker) => {
            const bytes = make(m, name);
            return [one([make(m, "good"), bytes.subarray(0, within)]), bytes.subarray(within)];
          },
        ]),
      ),
    ),
  ));

for (const name of ["good", "with a key", "denied", "GET", "in chunks", "gRPC-Web in text", "no length"]) {
  test(`a request that is cut in two at every byte: ${name}`, async () => {
    const cut =
      (at: number): Steps =>
      (m) =>
        cutAt(make(m, name), at).filter(({ length }) => length > 0);
    const { length } = make(new Maker("equality/1000"), name);
    await twins.compareAll(
      `cut at every byte, ${name}`,
      table(Array.from({ length }, (_, at) => [`at ${at}`, statuses([name]), cut(at)])),
    );
  });
}

test("requests that come byte by byte", () =>
  twins.compareAll(
    "byte by byte",
    table(
      [["good"], ["GET"], ["denied"], ["in chunks"], ["good", "GET", "good"], ["good", "no RPC", "good"]].map(
        (names) => [
          names.join(),
          statuses(names),
          (m) => byteByByte(one(names.map((name) => make(m, name)))),
        ],
      ),
    ),
  ));

test("head and body in packets of their own", () =>
  twins.compareAll("pauses", {
    "the body after the head": ["200", (m) => cutAt(m.post(), headOf(m.post()))],
    "the body long after the head": ["200", (m) => between(cutAt(m.post(), headOf(m.post())), "settle")],
    "half the body at a time": [
      "200",
      (m) => between(cutAt(m.post(), headOf(m.post()), headOf(m.post()) + 6), "settle"),
    ],
    "the last byte of the head alone": [
      "200",
      (m) => between(cutAt(m.post(), headOf(m.post()) - 1), "settle"),
    ],
    "the last line of the head alone": [
      "200",
      (m) => between(cutAt(m.post(), headOf(m.post()) - 2), "settle"),
    ],
    "the next request with the end of this": [
      "200 200",
      (m) => between(cutAt(one([m.post(), m.post()]), m.post().length - 3), "settle"),
    ],
    "the next head with the end of this, its body later": [
      "200 200",
      (m) =>
        between(
          cutAt(one([m.post(), m.post()]), m.post().length - 3, m.post().length + headOf(m.post())),
          "settle",
        ),
    ],
    "a denied one's body later": [
      "401 200",
      (m) => [
        ...between(cutAt(m.post({ path: path("Known") }), headOf(m.post({ path: path("Known") }))), "settle"),
        m.post(),
      ],
    ],
  }));

test("up to twenty requests in one packet", async () => {
  const lists = [2, 3, 5, 10, 20].flatMap((count) => [
    Array.from({ length: count }, () => "good"),
    Array.from({ length: count }, (_, i) => kindNames[(i * 7 + count) % kindNames.length] ?? ""),
    Array.from({ length: count }, (_, i) => ["GET", "late", "denied", "with a key"][i % 4] ?? ""),
  ]);
  await twins.compareAll("many", table(lists.map((names) => [names.join(), statuses(names), inOne(names)])));
  await twins.compareAll(
    "many, in pieces",
    table(
      lists.flatMap((names) =>
        (names.length < 10 ? [7, 40, 100] : [61, 251, 1000]).map((size) => [
          `${size} bytes at a time: ${names}`,
          statuses(names),
          (m: Maker) => inPieces(one(names.map((name) => make(m, name))), size),
        ]),
      ),
    ),
  );
});

test("what is pipelined behind a slow one is answered after it", () =>
  twins.compareAll("slow first", {
    "the first is slow": ["200 200 401", inOne(["late", "good", "denied"])],
    "all are slow": ["200 200 200", inOne(["late", "late", "late"])],
    "a stream first": ["200 200 200", inOne(["a stream", "good", "a stream"])],
    "others' first": ["200 200 404 200", inOne(["no RPC", "good", "an unknown path", "good"])],
  }));

test("empty lines before a request", () =>
  twins.compareAll("empty lines", {
    "one, CRLF": ["200", (m) => [one([latin1("\r\n"), m.post()])]],
    "one, LF": ["200", (m) => [one([latin1("\n"), m.post()])]],
    "one, CR": ["200", (m) => [one([latin1("\r"), m.post()])]],
    many: ["200", (m) => [one([latin1("\r\n".repeat(20)), m.post()])]],
    "in a packet of its own": ["200", (m) => [latin1("\r\n"), "settle", m.post()]],
    "CR and LF in packets of their own": ["200", (m) => [latin1("\r"), latin1("\n"), m.post()]],
    "between two": ["200 200", (m) => [one([m.post(), latin1("\r\n"), m.post()])]],
    "between two, in a packet of its own": [
      "200 200",
      (m) => [m.post(), 1, latin1("\r\n"), "settle", m.post()],
    ],
    "after the last": ["200", (m) => [one([m.post(), latin1("\r\n")])]],
    "two after the last": ["200", (m) => [one([m.post(), latin1("\r\n\r\n")])]],
    "a blank": ["400 closed", (m) => [one([latin1(" "), m.post()])]],
    "a blank line": ["400 closed", (m) => [one([latin1(" \r\n"), m.post()])]],
    "between a GET and a POST": ["200 200", (m) => [one([m.get(), latin1("\r\n"), m.post()])]],
    "only empty lines": ["", () => [latin1("\r\n\r\n\r\n")]],
  }));

test("what follows the message", () =>
  twins.compareAll(
    "trailing",
    {
      "a byte": ["400 closed", (m) => [one([m.post(), latin1("x")])]],
      "a word": ["400 closed", (m) => [one([m.post(), latin1("garbage")])]],
      "a line": ["400 closed", (m) => [one([m.post(), latin1("garbage\r\n")])]],
      "a head": ["400 closed", (m) => [one([m.post(), latin1("garbage\r\n\r\n")])]],
      "a word, later": ["200 400 closed", (m) => [m.post(), 1, latin1("garbage")]],
      "a head, later": ["200 400 closed", (m) => [m.post(), 1, latin1("garbage\r\n\r\n")]],
      NUL: ["400 closed", (m) => [one([m.post(), Buffer.alloc(3)])]],
      "a byte above 0x7f": ["400 closed", (m) => [one([m.post(), latin1("\xff\xfe")])]],
      "more of the message than was announced": ["400 closed", (m) => [m.post({ length: "5" })]],
      "the same of a message that is whole at that length": [
        "400 closed",
        (m) => [m.post({ length: "2", body: "{}{}" })],
      ],
      "a message shorter than announced, then a request": [
        "400 closed",
        (m) => [one([m.post({ length: "20", body: "{}" }), m.post()])],
      ],
      "garbage after a GET": ["400 closed", (m) => [one([m.get(), latin1("garbage\r\n\r\n")])]],
      "a body after a GET that announces none": ["400 closed", (m) => [one([m.get(), latin1("{}")])]],
      "garbage, then a request": [
        "400 closed",
        (m) => [one([m.post(), latin1("garbage\r\n\r\n"), m.post()])],
      ],
      "garbage after a late one": [
        "400 closed",
        (m) => [one([m.post({ body: json("all: echo later") }), latin1("garbage\r\n\r\n")])],
      ],
      "garbage after two late ones": [
        "400 closed",
        (m) => [
          one([
            m.post({ body: json("all: echo later") }),
            m.post({ body: json("all: echo later") }),
            latin1("!\r\n\r\n"),
          ]),
        ],
      ],
      "a preface of HTTP/2": [
        "400 closed",
        (m) => [one([m.post(), latin1("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")])],
      ],
      "a TLS hello": ["400 closed", (m) => [one([m.post(), Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0])])]],
    },
    { mayAnswer: 2 },
  ));

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(rows > 300, `${rows} connections' requests were logged`);
});

/** Where the body begins. */
function headOf(bytes: Buffer): number {
  return bytes.indexOf("\r\n\r\n") + 4;
}

function between(pieces: readonly Buffer[], step: Step): Step[] {
  return pieces.flatMap((piece, i) => (i === 0 ? [piece] : [step, piece]));
}

function inPieces(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size),
  );
}
