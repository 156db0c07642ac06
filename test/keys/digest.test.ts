/** Names as numbers: digests as Node decodes them, and no two names the same. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hashToken } from "../../src/auth/token.ts";
import { emptyDigest, readName } from "../../src/keys/digest.ts";

function read(name: string) {
  const digest = emptyDigest();
  digest.words.fill(0x55555555);
  readName(name, digest);
  const bytes = Buffer.alloc(32);
  for (const [i, word] of digest.words.entries()) bytes.writeInt32BE(word, 4 * i);
  return { base64: bytes.toString("base64"), isOfName: digest.isOfName };
}

test("a digest is read as Node reads it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      const base64 = Buffer.from(bytes).toString("base64");
      assert.deepEqual(read(base64), { base64, isOfName: false });
    }),
    { numRuns: 1000 },
  );
});

const good = hashToken("a token");
assert.match(good, /\+|\//, "both alphabets differ in it");
for (const [what, name] of [
  ["nothing", ""],
  ["a session's name", `session ${good}`],
  ["a digest without its padding", good.slice(0, 43)],
  ["a digest with more behind it", `${good}=`],
  ["another character for the padding", `${good.slice(0, 43)}A`],
  ["padding within", `=${good.slice(1)}`],
  ["padding twice, as of 31 bytes", `${good.slice(0, 42)}==`],
  ["base64url", good.replaceAll("+", "-").replaceAll("/", "_")],
  ["a space", `${good.slice(0, 20)} ${good.slice(21)}`],
  ["a letter that is not ASCII", `${good.slice(0, 20)}é${good.slice(21)}`],
  ["a letter whose lower bits are an ASCII letter's", `${good.slice(0, 20)}Ł${good.slice(21)}`],
] as const) {
  test(`${what} is no digest: it counts by its own`, () => {
    assert.notEqual(name, good);
    assert.deepEqual(read(name), { base64: hashToken(name), isOfName: true });
  });
}

test("a digest that is written in another way than the usual one is another name", () => {
  const written = digestWith(good, (last) => last);
  assert.equal(written, good);
  for (const spare of [1, 2, 3]) {
    const name = digestWith(good, (last) => last + spare);
    assert.deepEqual(Buffer.from(name, "base64"), Buffer.from(good, "base64"));
    assert.deepEqual(read(name), { base64: hashToken(name), isOfName: true });
  }
});

/** With another last character: two of its bits say nothing. */
function digestWith(base64: string, change: (last: number) => number): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  return `${base64.slice(0, 42)}${alphabet[change(alphabet.indexOf(base64[42]!))]}=`;
}
