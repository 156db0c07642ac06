/** The decoder: what it refuses, what it remembers, and what it never takes more of than it is told to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { hashBlock } from "../../src/http2/hpack/block-memory.ts";
import { HeaderDecoder, type HeaderDecoderOptions } from "../../src/http2/hpack/decoder.ts";
import type { HeaderBlock } from "../../src/http2/hpack/header-block.ts";
import { HpackError } from "../../src/http2/hpack/hpack-error.ts";
import { huffmanCodes } from "../../src/http2/hpack/huffman.ts";
import { endOfString, huffmanCodeLengths } from "../../src/http2/hpack/tables.ts";
import { type Field, fromBits, integer, literals, type Manner, string, Writer } from "./hpack-writer.ts";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

const usual: Field[] = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/a.B/C"],
  [":authority", "localhost"],
];
const asIndexed: Manner = { as: "indexed", isHuffman: true, spellsName: false };
const asNew: Manner = { as: "incremental", isHuffman: false, spellsName: false };

function create(options: Partial<HeaderDecoderOptions> = {}) {
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 16_384, ...options });
  return {
    decode: (octets: readonly number[] | Uint8Array) =>
      decoder.decode(Uint8Array.from(octets), 0, octets.length),
    decoder,
  };
}

const name = [0x00, 1, 0x61];
const custom = [0x40, 1, 0x61, 1, 0x62];

const errors: [name: string, octets: number[], said: RegExp][] = [
  ["index 0", [0x80], /index/],
  ["an index above the static table, of an empty dynamic one", [0xbe], /index/],
  ["an index above the dynamic table", [...custom, 0xbe, 0xbf], /index/],
  ["the name of an index that is not there", [0x7e, 1, 0x61], /index/],
  ["the name of one without indexing", [0x0f, 0x2f, 1, 0x61], /index/],
  ["an index that does not end", [0xff], /ends within/],
  ["an index that goes on and does not end", [0xff, 0x80, 0x80], /ends within/],
  ["an index of many octets", [0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], /too large/],
  ["an index that overflows", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], /too large/],
  ["a literal without name", [0x40], /ends within/],
  ["a literal without value", [0x40, 1, 0x61], /ends within/],
  ["an indexed name without value", [0x41], /ends within/],
  ["a value that is shorter than it says", [...name, 3, 0x61, 0x62], /ends within/],
  ["a length of a gigabyte", [...name, 0x7f, 0x80, 0x80, 0x80, 0x7f], /ends within/],
  ["a length that overflows", [...name, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f], /too large/],
  ["a size of the table after a field", [0x82, 0x20], /within a header block/],
  ["a size of the table last", [0x82, 0x86, 0x3f, 0x00], /within a header block/],
  ["a size above what was agreed on", [0x3f, 0xe2, 0x1f], /larger than was agreed on/],
  ["padding of zeroes", [...name, 0x81, 0x18], /Huffman/],
  ["padding of eight bits", [...name, 0x82, 0x1f, 0xff], /Huffman/],
  ["padding alone", [...name, 0x81, 0xff], /Huffman/],
  ["the end of the string in it", [...name, 0x84, 0xff, 0xff, 0xff, 0xff], /Huffman/],
  [
    "the end of the string after a symbol",
    [...name, 0x85, ...fromBits(`${"00011"}${"1".repeat(30)}${"1".repeat(5)}`)],
    /Huffman/,
  ],
  ["a code that does not end", [...name, 0x82, 0xff, 0xfe], /Huffman/],
  ["a name with wrong padding", [0x00, 0x81, 0x18, 1, 0x61], /Huffman/],
];

for (const [name, octets, said] of errors) {
  test(`an error of the connection: ${name}`, () => {
    const isRefused = (error: unknown) => error instanceof HpackError && said.test(error.message);
    assert.throws(() => create().decode(octets), isRefused);
    const before = [0x82, 0x82];
    const around = Uint8Array.from([...before, ...octets, 0x61, 0x62, 0x63, 0x64]);
    assert.throws(
      () => create().decoder.decodeTrailers(around, before.length, before.length + octets.length),
      isRefused,
      "what comes after the block is not of it",
    );
  });
}

test("a block is read from where it is said to be, and to where", () => {
  const block = literals([...usual, ["a", "b"]]);
  const around = Buffer.concat([Buffer.from([0xff, 0xff]), block, Buffer.from([0xff])]);
  const list = create().decoder.decode(around, 2, 2 + block.length);
  assert.deepEqual(list.rawHeaders, [...usual, ["a", "b"]].flat());
});

test("integers are of up to four octets after the first, whatever zeroes they end in", () => {
  const text = "a".repeat(1000);
  const { decode } = create();
  assert.deepEqual(decode([...name, 0x7f, 0xe9, 0x06, ...Buffer.from(text)]).rawHeaders, ["a", text]);
  assert.deepEqual(decode([...name, 0x7f, 0xe9, 0x86, 0x80, 0x00, ...Buffer.from(text)]).rawHeaders, [
    "a",
    text,
  ]);
});

test("every octet is decoded from its Huffman code, with all lengths of padding", () => {
  const { decode } = create({ maxListBytes: 1e6 });
  const paddings = new Set<number>();
  for (let octet = 0; octet < 256; octet++) {
    for (let before = 0; before < 8; before++) {
      const text = "a".repeat(before) + String.fromCharCode(octet);
      paddings.add((5 * before + huffmanCodeLengths[octet]!) % 8);
      assert.deepEqual(decode([...name, ...string(text, true)]).rawHeaders, ["a", text], `octet ${octet}`);
    }
  }
  assert.equal(paddings.size, 8);
});

test("no padding but the beginning of the end of string, of less than eight bits, is taken", () => {
  const codes = huffmanCodes();
  assert.equal(codes[endOfString], 2 ** 30 - 1);
  for (let length = 0; length <= 3; length++) {
    for (let padding = 0; padding < 2 ** (8 - ((5 * length) % 8 || 8)); padding++) {
      const bits = (5 * length) % 8 === 0 ? 0 : 8 - ((5 * length) % 8);
      const octets = fromBits(
        "00011".repeat(length) + (bits === 0 ? "" : padding.toString(2).padStart(bits, "0")),
      );
      const block = [...name, 0x80 | octets.length, ...octets];
      // Five bits and more may be another letter.
      if (padding === 2 ** bits - 1) assert.equal(create().decode(block).rawHeaders[1], "a".repeat(length));
      else if (bits < 5) assert.throws(() => create().decode(block), HpackError);
    }
  }
});

test("text of all sizes is decoded, the largest too", () => {
  const { decode } = create({ maxListBytes: 1e6 });
  for (const length of [0, 1, 126, 127, 128, 255, 16_383, 16_384, 16_385, 30_000, 200_000]) {
    for (const isHuffman of [false, true]) {
      const text = "ab\xff~"[length % 4]!.repeat(length);
      assert.deepEqual(decode([...name, ...string(text, isHuffman)]).rawHeaders, ["a", text]);
    }
  }
});

test("a client that repeats itself gets the same list, until the table changes", () => {
  const { decode } = create();
  const writer = new Writer();
  const fields: Field[] = [...usual, ["user-agent", "a"]];
  decode(writer.block(fields.map((field) => [field, asIndexed])));
  const indexes = () => writer.block(fields.map((field) => [field, asIndexed]));
  const first = decode(indexes());
  first.derived = "once";
  assert.deepEqual(first.rawHeaders, fields.flat());
  for (let i = 0; i < 5; i++) assert.equal(decode(indexes()), first);

  const before = indexes();
  decode(writer.block([[["a", "b"], asNew]]));
  assert.notDeepEqual(indexes(), before);
  const second = decode(indexes());
  assert.notEqual(second, first);
  assert.deepEqual(second.rawHeaders, fields.flat());
  assert.equal(second.derived, undefined);
  assert.equal(decode(indexes()), second);
  // The same octets are something else now.
  assert.notDeepEqual(decode(before).rawHeaders, fields.flat());

  decode([...writer.resize(0), 0x82]);
  assert.throws(() => decode(before), HpackError, "what they refer to was evicted");
});

test("a list with literals is the same from its third time on", () => {
  const { decode } = create();
  const block = literals(usual);
  decode(block);
  const second = decode(block);
  for (let i = 0; i < 5; i++) assert.equal(decode(block), second);
  assert.deepEqual(second.rawHeaders, usual.flat());
  const other = literals([...usual.slice(0, 3), [":authority", "localhosu"]]);
  assert.equal(decode(other).rawHeaders.at(-1), "localhosu");
});

test("a block that changes the table changes it each time", () => {
  const { decode, decoder } = create();
  for (let i = 1; i < 5; i++) {
    decode([0x82, ...custom]);
    assert.equal(decoder.tableBytes, 34 * i);
  }
});

test("trailers are not taken for a request, nor the other way round", () => {
  const { decode, decoder } = create();
  const indexes = Uint8Array.of(0x82, 0x86, 0x84, 0xbe);
  decode([0x66, 1, 0x61]);
  for (let i = 0; i < 4; i++) {
    assert.equal(decode(indexes).malformed, undefined);
    assert.equal(decoder.decodeTrailers(indexes, 0, 4).malformed, "a pseudo-header field among trailers");
  }
});

test("a list is too large above what it may have, its fields are dropped, and the table stays in step", () => {
  const bytes = usual.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
  const block = literals(usual);
  const fits = create({ maxListBytes: bytes }).decode(block);
  assert.deepEqual([fits.isTooLarge, fits.malformed, fits.bytes], [false, undefined, bytes]);

  const { decode, decoder } = create({ maxListBytes: bytes - 1 });
  for (let i = 0; i < 4; i++) {
    const list = decode([...block, ...custom]);
    assert.equal(list.isTooLarge, true);
    assert.equal(list.bytes, bytes + 34);
    assert.equal(list.malformed, `a header list of more than ${bytes - 1} bytes`);
    assert.deepEqual(list.rawHeaders, []);
    assert.deepEqual(Object.keys(list.headers), []);
    assert.equal(decoder.tableBytes, 34 * (i + 1));
  }
  assert.deepEqual(decode([0x82, 0xbe]).rawHeaders, [":method", "GET", "a", "b"]);
});

test("references to a large entry keep no more than a list may have, in little time", () => {
  const { decode } = create();
  decode([...integer(0x40, 6, 0), 1, 0x61, ...string("b".repeat(4000), false)]);
  const started = performance.now();
  const list = decode(new Uint8Array(1_000_000).fill(0xbe));
  assert.ok(performance.now() - started < 1000, `${performance.now() - started} ms`);
  assert.equal(list.isTooLarge, true);
  assert.equal(list.bytes, 1_000_000 * 4033);
  assert.deepEqual(list.rawHeaders, []);
  assert.deepEqual(decode([0x82, 0xbe]).rawHeaders.length, 4);
});

test("the table never has more than was agreed on, and starts with 4,096 bytes", () => {
  for (const maxTableBytes of [0, 100, 4096, 10_000]) {
    const { decode, decoder } = create({ maxTableBytes });
    for (let i = 0; i < 200; i++) {
      decode([0x40, ...string(`a${i}`, false), ...string("b".repeat(i), false)]);
    }
    assert.ok(decoder.tableBytes <= 4096 && decoder.tableBytes > 3700, `${decoder.tableBytes}`);
    decode(integer(0x20, 5, maxTableBytes));
    // The smallest entries that there are.
    for (let i = 0; i < 400; i++) decode([0x40, 0, 0]);
    const entries = Math.floor(maxTableBytes / 32);
    assert.equal(decoder.tableBytes, 32 * entries);
    assert.throws(() => decode(integer(0x80, 7, 62 + entries)), HpackError);
    assert.throws(() => decode(integer(0x20, 5, maxTableBytes + 1)), HpackError);
  }
});

test("an entry that is larger than the table empties it", () => {
  const { decode, decoder } = create();
  decode(custom);
  const large = decode([0x40, 1, 0x61, ...string("b".repeat(5000), false)]);
  assert.equal(large.rawHeaders[1]?.length, 5000);
  assert.equal(decoder.tableBytes, 0);
  assert.throws(() => decode([0xbe]), HpackError);
});

test("a name may be that of an entry which makes room for it", () => {
  const { decode, decoder } = create();
  decode([...integer(0x20, 5, 40), 0x40, 2, 0x61, 0x62, 1, 0x63]);
  assert.deepEqual(decode([0x7e, 2, 0x64, 0x65]).rawHeaders, ["ab", "de"]);
  assert.deepEqual(decode([0xbe]).rawHeaders, ["ab", "de"]);
  assert.equal(decoder.tableBytes, 36);
});

const fieldName = fc.constantFrom(
  "a",
  "b",
  "cookie",
  ":path",
  "x-long-name-of-a-field",
  "accept",
  "te",
  "A",
  "",
);
const value = fc.oneof(
  fc.constantFrom("", "1", "2", "/", "trailers", "x".repeat(130), "y".repeat(600)),
  fc.uint8Array({ maxLength: 50 }).map((octets) => Buffer.from(octets).toString("latin1")),
);
const manner: fc.Arbitrary<Manner> = fc.record({
  as: fc.constantFrom("indexed", "indexed", "indexed", "incremental", "without", "never"),
  isHuffman: fc.boolean(),
  spellsName: fc.boolean(),
});
const block = fc.record({
  sizes: fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 2 }),
  fields: fc.array(fc.tuple(fc.tuple(fieldName, value), manner), { maxLength: 12 }),
  times: fc.integer({ min: 1, max: 4 }),
});

test("whatever is written in whatever manner is read, over many blocks and sizes of the table", () => {
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 30 }), (blocks) => {
      const { decode, decoder } = create({ maxTableBytes: 5000 });
      const writer = new Writer();
      for (const { sizes, fields, times } of blocks) {
        for (let n = 0; n < times; n++) {
          const resized = n === 0 ? sizes.flatMap((size) => writer.resize(size)) : [];
          const list = decode([...resized, ...writer.block(fields)]);
          assert.deepEqual(
            list.rawHeaders,
            fields.flatMap(([field]) => [...field]),
          );
          assert.equal(decoder.tableBytes, writer.bytes);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("random octets are decoded or refused, and nothing grows", () => {
  const likely = fc.oneof(
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(
      0x82,
      0xbe,
      0xbf,
      0x40,
      0x41,
      0x00,
      0x10,
      0x20,
      0x3f,
      0x7f,
      0x80,
      0xff,
      1,
      2,
      3,
      0x81,
      0x82,
    ),
  );
  fc.assert(
    fc.property(fc.array(fc.array(likely, { maxLength: 60 }), { minLength: 1, maxLength: 30 }), (blocks) => {
      const { decode, decoder } = create({ maxTableBytes: 200, maxListBytes: 300 });
      for (const octets of blocks) {
        try {
          const list = decode(octets);
          const kept = list.rawHeaders.reduce((sum, text) => sum + text.length + 16, 0);
          assert.equal(kept, list.isTooLarge ? 0 : list.bytes);
          assert.ok(kept <= 300);
          assert.equal(typeof list.headers, "object");
        } catch (error) {
          assert.ok(error instanceof HpackError, `${error}`);
        }
        assert.ok(decoder.tableBytes <= 4096);
      }
    }),
    { numRuns: 2000 },
  );
});

test("blocks of the same hash are told apart", () => {
  const byHash = new Map<number, Buffer>();
  for (let i = 0; ; i++) {
    const block = literals([["a", `${i}`.padStart(7, "0")]]);
    const hash = hashBlock(block, 0, block.length);
    const other = byHash.get(hash);
    byHash.set(hash, block);
    if (other === undefined) continue;
    const { decode } = create();
    const first = decode(other).rawHeaders;
    for (let n = 0; n < 3; n++) {
      assert.deepEqual(decode(other).rawHeaders, first);
      assert.deepEqual(decode(block).rawHeaders, ["a", `${i}`.padStart(7, "0")]);
    }
    return;
  }
});

test("what it remembers is bounded, and each block comes to its own list", async () => {
  for (const [valueBytes, times, most] of [
    [10, 1, 64],
    [3000, 1, 21],
    [3000, 5, 4],
  ] as const) {
    const { decode } = create({ maxListBytes: 65_536 });
    decode([...integer(0x40, 6, 0), 1, 0x62, ...string("b".repeat(valueBytes), false)]);
    const kept: WeakRef<HeaderBlock>[] = [];
    for (let i = 0; i < 500; i++) {
      const references = new Array(times).fill(0xbe);
      const octets = [...literals([["a", `${i}`]]), ...references];
      for (let n = 0; n < 3; n++) {
        const list = decode(octets);
        assert.equal(list.rawHeaders[1], `${i}`);
        kept.push(new WeakRef(list));
      }
    }
    // What a WeakRef refers to is kept until the job that made it has ended.
    await setImmediate();
    collectGarbage();
    const alive = new Set(kept.map((list) => list.deref()).filter(Boolean)).size;
    assert.ok(alive <= most, `${alive} lists of ${times} times ${valueBytes} bytes`);
    assert.ok(alive > 0);
    decode([0x82]);
  }
});
