/** The encoder: what it writes is read, and is as short as it may be. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HeaderDecoder } from "../../src/http2/hpack/decoder.ts";
import { HeaderEncoder } from "../../src/http2/hpack/encoder.ts";

/** An encoder and the decoder of its peer. */
function create() {
  const encoder = new HeaderEncoder();
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 1e6 });
  const encode = (fields: readonly string[]) => {
    const room = encoder.room(fields);
    const target = Buffer.alloc(room + 20, 0xee);
    const end = encoder.encode(fields, target, 10);
    assert.ok(end - 10 <= room, `${end - 10} of ${room}`);
    assert.ok(
      target.subarray(end).every((octet) => octet === 0xee),
      "nothing is written behind its end",
    );
    return target.subarray(10, end);
  };
  const pass = (fields: readonly string[]) => {
    const block = encode(fields);
    const { rawHeaders, malformed } = decoder.decodeTrailers(block, 0, block.length);
    assert.deepEqual(rawHeaders, fields);
    return { block, malformed };
  };
  return { encoder, decoder, encode, pass };
}

const usual = [":status", "200", "content-type", "application/grpc", "grpc-encoding", "gzip"];

test("what repeats itself is indexed from its second time on, and an octet a field from its third", () => {
  const { pass } = create();
  assert.equal(pass(["grpc-status", "0"]).block.length, 15);
  assert.equal(pass(["grpc-status", "0"]).block[0], 0x40);
  assert.deepEqual([...pass(["grpc-status", "0"]).block], [0xbe]);
  pass(usual);
  pass(usual);
  assert.deepEqual([...pass(usual).block], [0x88, 0xbf, 0xbe]);
  assert.deepEqual([...pass(["grpc-status", "0"]).block], [0xc0]);
});

test("entries of the static table are indexes at once", () => {
  const { pass, decoder } = create();
  const { block } = pass([
    ":status",
    "404",
    ":status",
    "500",
    "accept-encoding",
    "gzip, deflate",
    "vary",
    "",
  ]);
  assert.deepEqual([...block], [0x8d, 0x8e, 0x90, 0xbb]);
  assert.equal(decoder.tableBytes, 0);
});

test("what is new each time leaves the table as it is", () => {
  const { pass, decoder } = create();
  for (let i = 0; i < 50; i++) {
    pass([
      ":status",
      "200",
      "x-trace",
      `${i}`,
      "date",
      "Thu, 26 Nov 2026 14:02:12 GMT",
      "content-length",
      "5",
    ]);
    pass([":status", "200", "x-request-id", "the same", "etag", "a", "last-modified", "b", "age", "1"]);
  }
  assert.equal(decoder.tableBytes, 0);
});

test("secrets are never indexed, and say so to whoever is on the way", () => {
  const { pass, decoder } = create();
  for (let i = 0; i < 5; i++) {
    assert.deepEqual([...pass(["set-cookie", "a"]).block], [0x1f, 0x28, 1, 0x61]);
    assert.deepEqual([...pass(["authorization", "a"]).block], [0x1f, 0x08, 1, 0x61]);
    assert.deepEqual([...pass(["cookie", "a"]).block], [0x1f, 0x11, 1, 0x61]);
    assert.deepEqual([...pass(["proxy-authorization", "a"]).block], [0x1f, 0x22, 1, 0x61]);
  }
  assert.equal(decoder.tableBytes, 0);
});

test("a large value is not indexed: it would push out the others", () => {
  const { pass, decoder } = create();
  for (let i = 0; i < 3; i++) pass(["a", "b".repeat(2000)]);
  assert.equal(decoder.tableBytes, 0);
});

test("an answer of more names than it remembers is written all the same", () => {
  const { pass } = create();
  const fields = Array.from({ length: 200 }, (_, i) => [`x-${i}`, "a"]).flat();
  for (let i = 0; i < 5; i++) pass(fields);
  for (let i = 0; i < 2; i++) pass(usual);
  assert.equal(pass(usual.slice(0, 4)).block.length, 2, "the usual ones are indexed after these too");
});

test("a smaller table is told of at the next block, the smallest of several first", () => {
  const { encoder, pass, decoder } = create();
  for (let i = 0; i < 3; i++) pass(usual);
  assert.ok(decoder.tableBytes > 0);

  encoder.setMaxTableBytes(100);
  assert.deepEqual([...pass([":status", "200"]).block], [0x3f, 69, 0x88]);
  assert.ok(decoder.tableBytes > 0 && decoder.tableBytes <= 100);
  assert.deepEqual([...pass([":status", "200"]).block], [0x88], "once");

  encoder.setMaxTableBytes(0);
  encoder.setMaxTableBytes(50);
  encoder.setMaxTableBytes(80);
  assert.deepEqual([...pass([":status", "200"]).block], [0x20, 0x3f, 49, 0x88]);
  assert.equal(decoder.tableBytes, 0);

  encoder.setMaxTableBytes(90);
  assert.deepEqual([...pass([":status", "200"]).block], [0x3f, 59, 0x88]);
  encoder.setMaxTableBytes(90);
  assert.deepEqual([...pass([":status", "200"]).block], [0x88]);

  // Smaller, and as before: what was dropped is dropped on the other side too.
  for (let i = 0; i < 3; i++) pass(["a", "b"]);
  encoder.setMaxTableBytes(0);
  encoder.setMaxTableBytes(90);
  assert.deepEqual([...pass([":status", "200"]).block], [0x20, 0x3f, 59, 0x88]);
  assert.equal(decoder.tableBytes, 0);

  encoder.setMaxTableBytes(0);
  for (let i = 0; i < 5; i++) pass(usual);
  assert.equal(decoder.tableBytes, 0);
});

test("sizes that a refused block was to tell of are told by the next", () => {
  for (const size of [0, 90]) {
    const { encoder, encode, pass } = create();
    encoder.setMaxTableBytes(size);
    assert.throws(() => encode(["a", "\n"]), TypeError);
    const told = size === 0 ? [0x20] : [0x20, 0x3f, 59];
    assert.deepEqual([...pass([":status", "200"]).block], [...told, 0x88]);
    assert.deepEqual([...pass([":status", "200"]).block], [0x88]);
  }
});

test("entries are referred to by indexes of all sizes", () => {
  const { pass } = create();
  const fields = Array.from({ length: 50 }, (_, i) => [
    [`x-${i}`, "a"],
    [`x-${i}`, "b"],
  ]).flat();
  for (const field of fields) for (let i = 0; i < 2; i++) pass(field);
  // From 62 to 161: those from 127 on take two octets.
  assert.equal(pass(fields.flat()).block.length, 65 + 2 * 35);
});

test("no more than 4,096 bytes are used, whatever the peer has room for", () => {
  const { encoder, pass, decoder } = create();
  encoder.setMaxTableBytes(2 ** 32 - 1);
  for (let i = 0; i < 40; i++) {
    const fields = ["a", `${i}`.repeat(200)];
    for (let n = 0; n < 3; n++) pass(fields);
  }
  assert.ok(decoder.tableBytes > 3000 && decoder.tableBytes <= 4096);
});

const refused: [name: string, fields: string[]][] = [
  ["an upper-case name", ["Content-Type", "a"]],
  ["an empty name", ["", "a"]],
  ["a name with a space", ["a b", "a"]],
  ["a name with LF", ["a\n", "a"]],
  ["an unknown pseudo-header field", [":a", "a"]],
  ["a value with CR", ["a", "b\rc"]],
  ["a value with LF", ["a", "b\nc"]],
  ["a value with NUL", ["a", "b\0c"]],
  ["a value with DEL", ["a", "b\x7fc"]],
  ["a value above Latin-1", ["a", "b\u0100"]],
  ["a value with whitespace before it", ["a", " b"]],
  ["a value with whitespace after it", ["a", "b\t"]],
];

for (const [name, fields] of refused) {
  test(`refused, and forgotten by the next block: ${name}`, () => {
    const { encoder, encode, pass } = create();
    for (const bytes of [4096, 100, 0, 4096]) {
      encoder.setMaxTableBytes(bytes);
      for (let i = 0; i < 3; i++) pass(usual);
      // Entries that the peer does not get to know are in none of the blocks after it.
      assert.throws(() => encode([...usual, "x", "y", "x", "y", "x", "z", "x", "z", ...fields]), TypeError);
      for (let i = 0; i < 3; i++) pass([...usual, "x", "y", "x", "z"]);
      encoder.setMaxTableBytes(200);
      assert.throws(() => encode(fields), TypeError);
      for (let i = 0; i < 3; i++) pass(usual);
    }
  });
}

test("a block without room is refused, and forgotten", () => {
  const { encoder, pass } = create();
  pass(["a", "b"]);
  assert.throws(() => encoder.encode(["a", "b", "c", "d"], Buffer.alloc(4), 0), RangeError);
  for (let i = 0; i < 3; i++) pass(["a", "b", "c", "d"]);
});

const name = fc.constantFrom(
  ...[
    "a",
    "b",
    "x-c",
    "content-type",
    "cache-control",
    "grpc-status",
    "set-cookie",
    "date",
    "vary",
    "x-request-id",
  ],
  ...Array.from({ length: 80 }, (_, i) => `x-field-${i}`),
);
const value = fc.oneof(
  fc.constantFrom(
    "",
    "0",
    "1",
    "application/grpc",
    "\xff",
    "x".repeat(126),
    "x".repeat(127),
    "x".repeat(128),
    "y".repeat(900),
  ),
  fc.string({ unit: "grapheme-ascii", maxLength: 20 }).map((text) => text.trim()),
);
const fields = fc
  .tuple(fc.constantFrom("200", "404", "401", "999"), fc.array(fc.tuple(name, value), { maxLength: 12 }))
  .map(([status, list]) => [":status", status, ...list.flat()]);
const step = fc.record({
  lists: fc.array(fields, { minLength: 1, maxLength: 3 }),
  times: fc.integer({ min: 1, max: 4 }),
  sizes: fc.oneof(fc.constant([]), fc.array(fc.nat({ max: 6000 }), { maxLength: 3 })),
  isBroken: fc.boolean(),
});

test("whatever is encoded is decoded, over many blocks and sizes of the table", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 15 }), (steps) => {
      const { encoder, encode, pass } = create();
      for (const { lists, times, sizes, isBroken } of steps) {
        for (const size of sizes) encoder.setMaxTableBytes(size);
        if (isBroken) assert.throws(() => encode([...lists[0]!, "a", "\n"]), TypeError);
        for (let n = 0; n < times; n++) {
          for (const list of lists) pass(list);
        }
      }
    }),
    { numRuns: 300 },
  );
});
