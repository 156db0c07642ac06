/** Tokens: their shape and checksum, worked out here a second time. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { createRedactor, createToken, hashToken, isToken, tokenStart } from "../../src/auth/token.ts";
import { tokenPattern } from "../harness/token-pattern.ts";

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** CRC-32 (ISO 3309, reflected, polynomial 0xEDB88320), bit by bit. */
function crc32(text: string): number {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Six base62 digits, the most significant first. */
function base62(value: number): string {
  let left = BigInt(value);
  let text = "";
  for (; left > 0n; left /= 62n) text = digits[Number(left % 62n)] + text;
  return text.padStart(6, "0");
}

function tokenOf(prefix: string, random: string): string {
  return `${prefix}_${random}${base62(crc32(random))}`;
}

/** A body whose checksum begins with at least so many zeros. */
function bodyWithZeros(zeros: number): string {
  for (let n = 0; ; n++) {
    const random = `${n}`.padStart(32, "z");
    if (base62(crc32(random)).startsWith("0".repeat(zeros))) return random;
  }
}

test("the CRC-32 of this test is the standard one", () => {
  // The check value of every catalogue of CRCs.
  assert.equal(crc32("123456789"), 0xcbf43926);
});

test("a token is its prefix, 32 base62 characters and their CRC-32 as six more", () => {
  for (const prefix of ["lk", "a", "my_app", "x9", "abcdefghij_klmno"]) {
    for (let i = 0; i < 50; i++) {
      const token = createToken(prefix);
      assert.equal(token.length, prefix.length + 1 + 38);
      assert.match(token.slice(prefix.length + 1), /^[0-9A-Za-z]{38}$/);
      assert.equal(token, tokenOf(prefix, token.slice(prefix.length + 1, -6)));
      assert.ok(isToken(token, prefix));
    }
  }
});

test("a checksum that is small is padded with zeros", () => {
  for (const zeros of [1, 2]) {
    const random = bodyWithZeros(zeros);
    const token = tokenOf("lk", random);
    assert.equal(token.at(-6), "0");
    assert.ok(isToken(token, "lk"));
    const unpadded = `lk_${random}${base62(crc32(random)).replace(/^0+/, "")}`;
    assert.ok(!isToken(unpadded, "lk"));
  }
});

test("a token with any one character changed to any other is refused", () => {
  const token = tokenOf("lk", "0Az9Bb".repeat(5).concat("7q"));
  assert.ok(isToken(token, "lk"));
  let changed = 0;
  for (let at = 3; at < token.length; at++) {
    for (const digit of digits) {
      if (digit === token[at]) continue;
      assert.ok(!isToken(token.slice(0, at) + digit + token.slice(at + 1), "lk"), `${at}: ${digit}`);
      changed++;
    }
  }
  assert.equal(changed, 38 * 61);
});

test("a token with two neighbours swapped is refused", () => {
  const token = tokenOf("lk", "0123456789ABCDEFGHIJKLMNOPQRSTUV");
  for (let at = 3; at < token.length - 1; at++) {
    if (token[at] === token[at + 1]) continue;
    const swapped = token.slice(0, at) + token[at + 1] + token[at] + token.slice(at + 2);
    assert.ok(!isToken(swapped, "lk"), `${at}`);
  }
});

const random = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
const good = tokenOf("lk", random);
/** The last character, 256 code points further on. */
const wide = (token: string) => String.fromCharCode(token.charCodeAt(token.length - 1) + 256);

for (const [name, value, prefix, expected] of [
  ["a good one", good, "lk", true],
  ["a good one of a prefix with an underscore", tokenOf("my_app", random), "my_app", true],
  ["a prefix with an underscore, cut at it", tokenOf("my_app", random), "my", false],
  ["a prefix that is the end of the expected one", tokenOf("app", random), "my_app", false],
  ["another prefix of the same length", tokenOf("kl", random), "lk", false],
  ["a longer prefix", tokenOf("lk2", random), "lk", false],
  ["a prefix in upper case", tokenOf("LK", random), "lk", false],
  ["no prefix", good.slice(3), "lk", false],
  ["no underscore", good.replace("_", ""), "lk", false],
  ["a hyphen for the underscore", good.replace("_", "-"), "lk", false],
  ["the empty string", "", "lk", false],
  ["the prefix alone", "lk_", "lk", false],
  ["one character too few", good.slice(0, -1), "lk", false],
  ["one character too many", `${good}0`, "lk", false],
  ["31 random characters with their own checksum", tokenOf("lk", random.slice(1)), "lk", false],
  ["33 random characters with their own checksum", tokenOf("lk", `${random}6`), "lk", false],
  ["a space before", ` ${good}`, "lk", false],
  ["a space after", `${good} `, "lk", false],
  ["a line break after", `${good}\n`, "lk", false],
  ["a line break for the last character", `${good.slice(0, -1)}\n`, "lk", false],
  ["a NUL within", `${good.slice(0, 10)}\0${good.slice(11)}`, "lk", false],
  ["in lower case", good.toLowerCase(), "lk", false],
  ["letters that are not ASCII, with their own checksum", tokenOf("lk", `é${random.slice(1)}`), "lk", false],
  ["digits that are not ASCII, with their own checksum", tokenOf("lk", `٣${random.slice(1)}`), "lk", false],
  ["full-width letters, with their own checksum", tokenOf("lk", `Ａ${random.slice(1)}`), "lk", false],
  ["a letter whose lower bits are an ASCII letter's", good.replace("A", "\u0141"), "lk", false],
  [
    "a digit of the checksum whose lower bits are an ASCII digit's",
    `${good.slice(0, -1)}${wide(good)}`,
    "lk",
    false,
  ],
  ["base64url characters, with their own checksum", tokenOf("lk", `-_${random.slice(2)}`), "lk", false],
] as const) {
  test(`${name}: ${expected ? "a token" : "no token"}`, () => {
    assert.equal(isToken(value, prefix), expected);
  });
}

test("tokens are never alike, and each character is as likely as the others", () => {
  const seen = new Set<string>();
  const counts = new Map<string, number>();
  const tokens = 2000;
  for (let i = 0; i < tokens; i++) {
    const body = createToken("lk").slice(3, -6);
    seen.add(body);
    for (const character of body) counts.set(character, (counts.get(character) ?? 0) + 1);
  }
  assert.equal(seen.size, tokens);
  assert.equal(counts.size, 62);
  // 64,000 draws: 1,032 each, with a standard deviation of 32. Taking every byte modulo 62
  // would give the first eight characters 1,250, seven deviations more.
  for (const [character, count] of counts) {
    assert.ok(count > 1032 - 6 * 32 && count < 1032 + 6 * 32, `${character}: ${count}`);
  }
});

test("every position of a token varies", () => {
  const tokens = Array.from({ length: 200 }, () => createToken("lk").slice(3));
  for (let at = 0; at < 38; at++) {
    // The first of the checksum is 0 to 4: six base62 characters hold more than 32 bits.
    const expected = at === 32 ? 3 : 30;
    const distinct = new Set(tokens.map((token) => token[at])).size;
    assert.ok(distinct >= expected, `position ${at} has ${distinct} values`);
  }
});

test("the start shows six characters of the random part", () => {
  assert.equal(tokenStart(good, "lk"), "lk_ABCDEF");
  assert.equal(tokenStart(tokenOf("my_app", random), "my_app"), "my_app_ABCDEF");
});

test("the hash is the SHA-256 of the whole token in base64", () => {
  assert.equal(hashToken(good), createHash("sha256").update(good, "ascii").digest("base64"));
  // FIPS 180-4's example, so that not both are wrong alike.
  assert.equal(
    Buffer.from(hashToken("abc"), "base64").toString("hex"),
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  );
});

test("the pattern for secret scanners finds every token in a text and nothing shorter", () => {
  for (const prefix of ["lk", "my_app"]) {
    const pattern = tokenPattern(prefix);
    for (let i = 0; i < 50; i++) {
      const token = createToken(prefix);
      assert.equal(`curl -H "x-api-key: ${token}" …`.match(pattern)?.[0], token);
      assert.equal(token.match(pattern)?.[0], token);
      assert.equal(pattern.test(token.slice(0, -1)), false);
      assert.equal(pattern.test(`${token}0`), false);
    }
  }
});

for (const [name, text, expected] of [
  ["a token alone", good, "lk_[redacted]"],
  ["a token within a sentence", `the key ${good}, sent`, "the key lk_[redacted], sent"],
  ["two tokens", `${good} ${good}`, "lk_[redacted] lk_[redacted]"],
  ["a token cut short", good.slice(0, 20), "lk_[redacted]"],
  ["a token with more behind it", `${good}abc`, "lk_[redacted]"],
  ["a token within a word", `x${good}`, "xlk_[redacted]"],
  ["a token in a URL", `/?key=${good}&a=b`, "/?key=lk_[redacted]&a=b"],
  ["a token that is malformed", `${good.slice(0, -1)}!`, "lk_[redacted]!"],
  ["the start alone, which may be shown", tokenStart(good, "lk"), "lk_ABCDEF"],
  ["a text without a token", "latchkey_changes lk_ lk", "latchkey_changes lk_ lk"],
  ["the empty text", "", ""],
] as const) {
  test(`redacting ${name}`, () => {
    const redact = createRedactor("lk");
    assert.equal(redact(text), expected);
    // It keeps no place from one text to the next.
    assert.equal(redact(text), expected);
  });
}

test("a redactor takes out tokens of its own prefix, an underscore in it or not", () => {
  const redact = createRedactor("my_app");
  assert.equal(redact(`a ${tokenOf("my_app", random)} b`), "a my_app_[redacted] b");
  assert.equal(redact("my_app_name"), "my_app_name");
});
