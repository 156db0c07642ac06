/** What reads the servers' answers in these tests reads the examples of RFC 7541 right, and refuses what is wrong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Fields, HeaderDecoder } from "./hpack.ts";

const requests: readonly Fields[] = [
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ],
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
    ["cache-control", "no-cache"],
  ],
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    [":authority", "www.example.com"],
    ["custom-key", "custom-value"],
  ],
];

/** Appendix C.3 and C.4: three requests of one connection, and again in Huffman's code. */
for (const [name, blocks] of [
  [
    "plain",
    [
      "828684410f7777772e6578616d706c652e636f6d",
      "828684be58086e6f2d6361636865",
      "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ],
  ],
  [
    "in Huffman's code",
    [
      "828684418cf1e3c2e5f23a6ba0ab90f4ff",
      "828684be5886a8eb10649cbf",
      "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ],
  ],
] as const) {
  test(`requests ${name} are read as RFC 7541 says`, () => {
    const decoder = new HeaderDecoder();
    const read = blocks.map((block) => decoder.decode(Buffer.from(block, "hex")));
    assert.deepEqual(read, requests);
  });
}

for (const [name, block, message] of [
  ["an index of nothing", "be", /there is no entry 62/],
  ["index 0", "80", /there is no entry 0/],
  ["a table above the limit", "3fe21f", /the table is made 4097/],
  ["a table size after a field", "8220", /after a field/],
  ["a string beyond the block", "000361", /longer than its block/],
  ["an integer beyond the block", "1fff", /ends with its block/],
  ["padding of zeros", "008118".concat("8118"), /padding/],
  ["EOS in a string", "0084ffffffff", /EOS/],
] as const) {
  test(`${name} is refused`, () => {
    assert.throws(() => new HeaderDecoder().decode(Buffer.from(block, "hex")), message);
  });
}

test("a table that was lowered must be said to be", () => {
  const decoder = new HeaderDecoder();
  decoder.setLimit(100);
  assert.throws(() => decoder.decode(Buffer.from("82", "hex")), /does not say so/);
  assert.deepEqual(decoder.decode(Buffer.from("2082", "hex")), [[":method", "GET"]]);
  assert.deepEqual(decoder.decode(Buffer.from("82", "hex")), [[":method", "GET"]]);
});
