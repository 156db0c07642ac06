/** However a request is cut into frames and segments, it is the same request (RFC 9113, sections 4.3, 5.5, 6.1 and 6.2). */
import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { flag, frame, frameType, headerBlock, magic, uint32 } from "../../faults/frames.ts";
import { type Connection, data, headers, padded, settings } from "./connection.ts";
import { type Fields, huffmanLiteral } from "./hpack.ts";
import { assertServes, comparable, grpc, grpcAnswered, grpcMessage, servedBothWays } from "./served.ts";

const bothWays = servedBothWays();

const both = flag.endHeaders | flag.endStream;
const fields = grpc("Unary", [["x-own", "1"]]);
const block = headerBlock(fields);
const body = grpcMessage("hello");
const none = Buffer.alloc(0);
const continuation = (stream: number, payload: Uint8Array, flags = 0) =>
  frame(frameType.continuation, flags, stream, payload);

/** One HEADERS frame and further pieces, the last of which ends the block. */
function inPieces(stream: number, pieces: readonly Uint8Array[], flags = 0): Buffer[] {
  return pieces.map((piece, i) => {
    const end = i === pieces.length - 1 ? flag.endHeaders : 0;
    return i === 0 ? frame(frameType.headers, flags | end, stream, piece) : continuation(stream, piece, end);
  });
}

type Whole = readonly [name: string, frames: (stream: number) => Uint8Array[]];

const bodies: readonly Whole[] = [
  ["in one frame", (stream) => [data(stream, body, flag.endStream)]],
  ["that ends with an empty frame", (stream) => [data(stream, body), data(stream, none, flag.endStream)]],
  [
    "among empty frames",
    (stream) => [
      ...Array(20).fill(data(stream, none)),
      data(stream, body),
      ...Array(20).fill(data(stream, none)),
      data(stream, none, flag.endStream),
    ],
  ],
  [
    "of frames of one byte",
    (stream) => [...body].map((byte, i) => data(stream, Buffer.of(byte), i === body.length - 1 ? 1 : 0)),
  ],
  ...[0, 1, 100, 255].map(
    (padding): Whole => [`padded by ${padding}`, (stream) => [data(stream, body, flag.endStream, padding)]],
  ),
  [
    "of padded frames of one byte",
    (stream) => [...body].map((byte, i) => data(stream, Buffer.of(byte), i === body.length - 1 ? 1 : 0, i)),
  ],
  [
    "that ends with nothing but padding",
    (stream) => [data(stream, body, 0, 3), data(stream, none, flag.endStream, 200)],
  ],
  ["that ends with trailers", (stream) => [data(stream, body), headers(stream, [["x-trailer", "1"]], both)]],
  ["that ends with empty trailers", (stream) => [data(stream, body), headers(stream, [], both)]],
  [
    "that ends with trailers in pieces",
    (stream) => {
      const trailers = headerBlock([["x-trailer", "1"]]);
      const pieces = [none, trailers.subarray(0, 3), none, trailers.subarray(3)];
      return [data(stream, body), ...inPieces(stream, pieces, flag.endStream)];
    },
  ],
];

for (const [name, frames] of bodies) {
  bothWays(`a body ${name} is taken`, async (t, served) => {
    const connection = served.open(t);
    const unary = connection.newStream();
    connection.send(headers(unary, fields), ...frames(unary));
    const streamed = connection.newStream();
    connection.send(headers(streamed, grpc("ClientStream")), ...frames(streamed));
    const answers = [await connection.answer(unary), await connection.answer(streamed)];
    assert.deepEqual(answers.map(grpcAnswered), [["hello"], ["1 messages, 5 bytes"]]);
    return answers.map(comparable);
  });
}

const heads: readonly Whole[] = [
  [
    "with a priority",
    (s) => [frame(frameType.headers, 0x24, s, Buffer.concat([uint32(0), Buffer.of(255), block]))],
  ],
  ["padded", (s) => [frame(frameType.headers, 0x0c, s, padded(block, 255))]],
  [
    "padded and with a priority",
    (s) => [
      frame(frameType.headers, 0x2c, s, padded(Buffer.concat([uint32(2 ** 31 + 5), Buffer.of(0), block]), 9)),
    ],
  ],
  ["that goes on in CONTINUATION", (s) => inPieces(s, [block.subarray(0, 50), block.subarray(50)])],
  ["of empty frames up to the last", (s) => inPieces(s, [none, none, none, block])],
  ["that ends with an empty frame", (s) => inPieces(s, [block, none])],
  [
    "padded, with a priority, and in pieces",
    (s) => [
      frame(
        frameType.headers,
        0x28,
        s,
        padded(Buffer.concat([uint32(0), Buffer.of(0), block.subarray(0, 9)]), 20),
      ),
      continuation(s, block.subarray(9), flag.endHeaders),
    ],
  ],
  // More than 8 are a flood to nghttp2.
  [
    "in 8 further frames of one byte",
    (s) => inPieces(s, [block.subarray(0, -8), ...[...block.subarray(-8)].map((byte) => Buffer.of(byte))]),
  ],
  [
    "of 12,000 bytes in pieces",
    (s) => {
      const large = headerBlock([...fields, ["x-large", "x".repeat(12_000)]]);
      return inPieces(s, [large.subarray(0, 1), large.subarray(1, 7000), large.subarray(7000)]);
    },
  ],
];

for (const [name, frames] of heads) {
  bothWays(`a header block ${name} is taken`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    connection.send(...frames(stream), data(stream, body, flag.endStream));
    const answer = await connection.answer(stream);
    assert.deepEqual(grpcAnswered(answer), ["hello"]);
    return comparable(answer);
  });
}

bothWays("a header block may be cut between frames at every byte", async (t, served) => {
  const connection = served.open(t);
  const streams: number[] = [];
  for (let at = 0; at <= block.length; at++) {
    const stream = connection.newStream();
    streams.push(stream);
    connection.send(
      ...inPieces(stream, [block.subarray(0, at), block.subarray(at)]),
      data(stream, body, flag.endStream),
    );
  }
  for (const stream of streams) assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["hello"]);
});

/** A request that has something of all, for a stream. */
const richly = (stream: number) =>
  Buffer.concat([
    settings([[1, 4096]]),
    frame(
      frameType.headers,
      0x28,
      stream,
      padded(Buffer.concat([uint32(0), Buffer.of(0), block.subarray(0, 40)]), 3),
    ),
    continuation(stream, block.subarray(40), flag.endHeaders),
    frame(0x42, 0, stream, Buffer.from("unknown")),
    data(stream, body.subarray(0, 6), 0, 4),
    frame(frameType.windowUpdate, 0, 0, uint32(1)),
    data(stream, body.subarray(6)),
    headers(stream, [["x-trailer", "1"]], both),
  ]);

/** What is written next is a segment of its own, and read by itself. */
const apart = async () => {
  for (let i = 0; i < 3; i++) await turn();
};

bothWays("a request may be cut between segments at every byte", async (t, served) => {
  const connection = served.open(t, { settings: [] });
  await connection.settled();
  const { length } = richly(1);
  for (let at = 1; at < length; at++) {
    const stream = connection.newStream();
    const bytes = richly(stream);
    connection.expectSettings([[1, 4096]]);
    connection.socket.write(bytes.subarray(0, at));
    await apart();
    connection.socket.write(bytes.subarray(at));
    assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["hello"], `cut at ${at}`);
  }
});

bothWays("a connection may arrive byte by byte", async (t, served) => {
  const connection = served.open(t, { greets: false });
  const stream = connection.newStream();
  connection.expectSettings([]);
  connection.expectSettings([[1, 4096]]);
  for (const byte of Buffer.concat([magic, settings([]), richly(stream)])) {
    connection.socket.write(Buffer.of(byte));
    await apart();
  }
  assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["hello"]);
});

bothWays("many requests may come in one segment", async (t, served) => {
  const connection = served.open(t);
  const streams = Array.from({ length: 200 }, () => connection.newStream());
  const call = (stream: number) => [headers(stream, fields), data(stream, grpcMessage(`${stream}`), 1)];
  connection.send(...streams.flatMap(call));
  for (const stream of streams)
    assert.deepEqual(grpcAnswered(await connection.answer(stream)), [`${stream}`]);
});

// --- How fields are written (RFC 7541, section 6) ------------------------------

const short = (text: string) => Buffer.concat([Buffer.of(text.length), Buffer.from(text)]);
const literal = (kind: number, name: string, value: string) =>
  Buffer.concat([Buffer.of(kind), short(name), short(value)]);
const indexed = (index: number) => Buffer.of(0x80 | index);

/** What the handler of a call was given, whose headers are those of any call and these. */
async function seenOf(connection: Connection, ...own: Uint8Array[]): Promise<unknown> {
  const stream = connection.newStream();
  const block = [...own.filter(isUpdate), headerBlock(grpc()), ...own.filter((bytes) => !isUpdate(bytes))];
  connection.send(
    frame(frameType.headers, flag.endHeaders, stream, Buffer.concat(block)),
    data(stream, grpcMessage("headers"), flag.endStream),
  );
  return JSON.parse(grpcAnswered(await connection.answer(stream))[0]!);
}
/** A size update, which has to come first. */
const isUpdate = (bytes: Uint8Array) => (bytes[0]! & 0xe0) === 0x20;

bothWays("a field is the same in every representation", async (t, served) => {
  const connection = served.open(t);
  const a = [["x-a", "1"]];
  assert.deepEqual(await seenOf(connection, literal(0x00, "x-a", "1")), a);
  assert.deepEqual(await seenOf(connection, literal(0x10, "x-a", "1")), a);
  assert.deepEqual(await seenOf(connection, literal(0x40, "x-a", "1")), a);
  assert.deepEqual(await seenOf(connection, indexed(62)), a);
  // A name from the table, a value of its own, which becomes an entry too.
  assert.deepEqual(await seenOf(connection, Buffer.of(0x40 | 62), short("2")), [["x-a", "2"]]);
  assert.deepEqual(await seenOf(connection, indexed(62)), [["x-a", "2"]]);
  assert.deepEqual(await seenOf(connection, indexed(63)), a);
  // An index of more than its prefix: 62 of four bits.
  assert.deepEqual(await seenOf(connection, Buffer.of(0x0f, 47), short("3")), [["x-a", "3"]]);
  assert.deepEqual(await seenOf(connection, Buffer.of(0x1f, 47), short("4")), [["x-a", "4"]]);
  const huffman = Buffer.concat([Buffer.of(0), huffmanLiteral("x-a"), huffmanLiteral("Zürich {1}")]);
  assert.deepEqual(await seenOf(connection, huffman), [["x-a", "Zürich {1}"]]);
});

bothWays("Huffman's code is read of every byte that a value may hold", async (t, served) => {
  const connection = served.open(t);
  const values = Array.from({ length: 256 }, (_, byte) => byte).filter(
    (byte) => byte >= 0x20 && byte !== 0x7f,
  );
  const seen: unknown[] = [];
  for (let at = 0; at < values.length; at += 24) {
    const value = `<${String.fromCharCode(...values.slice(at, at + 24))}>`;
    const field = Buffer.concat([Buffer.of(0), huffmanLiteral("x-a"), huffmanLiteral(value)]);
    seen.push(await seenOf(connection, field));
    assert.deepEqual(seen.at(-1), [["x-a", value]]);
  }
  return seen;
});

bothWays("the table is emptied by an update, and begins again", async (t, served) => {
  const connection = served.open(t);
  await seenOf(connection, literal(0x40, "x-a", "1"));
  const emptied = Buffer.of(0x20);
  const as4096 = Buffer.of(0x3f, 0xe1, 0x1f);
  assert.deepEqual(await seenOf(connection, emptied, as4096, literal(0x40, "x-b", "2")), [["x-b", "2"]]);
  assert.deepEqual(await seenOf(connection, indexed(62)), [["x-b", "2"]]);
  const stream = connection.newStream();
  connection.send(frame(frameType.headers, both, stream, indexed(63)));
  assert.equal(await connection.outcome(stream), "GOAWAY COMPRESSION_ERROR");
});

bothWays(
  "the oldest entries make room for new ones, and one that is too large for the table empties it",
  async (t, served) => {
    const connection = served.open(t);
    const large = (name: string, length: number) => {
      const block = headerBlock([[name, "v".repeat(length)]]);
      block[0] = 0x40;
      return block;
    };
    // Of 4,096 bytes: 3 entries of 1,335 each, name and 32 bytes included; then a fourth.
    for (const name of ["x-a", "x-b", "x-c", "x-d"]) await seenOf(connection, large(name, 1300));
    const seen = (await seenOf(connection, indexed(62), indexed(63), indexed(64))) as [string, string][];
    assert.deepEqual(
      seen.map(([name]) => name),
      ["x-b", "x-c", "x-d"],
    );
    await seenOf(connection, large("x-e", 4096));
    await seenOf(connection, literal(0x40, "x-f", "1"));
    assert.deepEqual(await seenOf(connection, indexed(62)), [["x-f", "1"]]);
    const stream = connection.newStream();
    connection.send(frame(frameType.headers, both, stream, indexed(63)));
    assert.equal(await connection.outcome(stream), "GOAWAY COMPRESSION_ERROR");
  },
);

bothWays("the table is kept also by blocks whose streams are refused or were reset", async (t, served) => {
  const connection = served.open(t);
  const malformed = connection.newStream();
  connection.send(
    frame(
      frameType.headers,
      both,
      malformed,
      Buffer.concat([literal(0x40, "x-a", "1"), headerBlock([["X-B", "1"]])]),
    ),
  );
  assert.equal(await connection.outcome(malformed), "RST_STREAM PROTOCOL_ERROR");
  assert.deepEqual(await seenOf(connection, indexed(62)), [["x-a", "1"]]);
});

bothWays("fields that come more than once are joined, cookies by semicolons", async (t, served) => {
  const connection = served.open(t);
  const more: Fields = [
    ["cookie", "a=1"],
    ["x-a", "1"],
    ["cookie", "b=2"],
    ["x-a", "2"],
    ["x-empty", ""],
    ["cookie", "c=3"],
  ];
  const stream = connection.request(grpc("Unary", more), grpcMessage("headers"));
  const [seen] = grpcAnswered(await connection.answer(stream));
  assert.deepEqual(JSON.parse(seen!), [
    ["cookie", "a=1; b=2; c=3"],
    ["x-a", "1, 2"],
    ["x-empty", ""],
  ]);
});

for (const [name, more] of [
  ["in one field", [["x-large", "x".repeat(17_000)]]],
  ["in a hundred", Array.from({ length: 100 }, (_, i): [string, string] => [`x-${i}`, "v".repeat(140)])],
  ["in a thousand", Array.from({ length: 1000 }, (_, i): [string, string] => [`x-${i}`, "1"])],
] as const) {
  bothWays(`headers larger than is allowed, ${name}, reset their stream alone`, async (t, served) => {
    const connection = served.open(t);
    // Node heeds its limit once the client has acknowledged it.
    await connection.settled();
    const large = headerBlock([...grpc(), ...more]);
    const stream = connection.newStream();
    const pieces = [large.subarray(0, 16_000), large.subarray(16_000, 32_000), large.subarray(32_000)];
    connection.send(...inPieces(stream, pieces), data(stream, body, flag.endStream));
    assert.equal(await connection.outcome(stream), "RST_STREAM ENHANCE_YOUR_CALM");
    assert.equal(connection.soFar(stream).status, undefined);
    await assertServes(connection);
  });
}
