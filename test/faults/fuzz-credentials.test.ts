/** No text but a token is taken for it, whatever it looks like; what a connection speaks is told by its first bytes. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { createCredentialReader } from "../../src/auth/credential.ts";
import { createToken, hashToken, isForeignToken, isToken } from "../../src/auth/token.ts";
import { classify } from "../../src/sniff.ts";
import { noteSecret } from "../harness/secrets.ts";
import { checkMutants, pick } from "./fuzz.ts";

const secretKey = noteSecret("sk_test_0123456789abcdef");
const real = Array.from({ length: 20 }, () => noteSecret(createToken("lk")));
const corpus = [
  ...real,
  ...real.map((token) => `Bearer ${token}`),
  ...real.slice(0, 3).map((token) => token.slice(3)),
  createToken("other"),
  secretKey,
  "Basic YTpi",
  "bearer",
  "lk_",
  `lk_${"0".repeat(38)}`,
  "unkey_3ZabcdefghijklmnopQRSTV",
];

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** README's words for a token, once more: the prefix, 32 base62 characters, their CRC-32 as six more. */
function isTokenByTheBook(text: string): boolean {
  const [, random, checksum] = /^lk_([0-9A-Za-z]{32})([0-9A-Za-z]{6})$/.exec(text) ?? [];
  if (random === undefined || checksum === undefined || text.endsWith("\n")) return false;
  let crc = 0xffffffff;
  for (const character of random) crc = (crc >>> 8) ^ (table[(crc ^ character.charCodeAt(0)) & 255] ?? 0);
  let value = 0;
  for (const character of checksum) value = value * 62 + digits.indexOf(character);
  return value === (crc ^ 0xffffffff) >>> 0;
}

test("a text is a token exactly when its shape and checksum say so", (t) => {
  let tokens = 0;
  checkMutants(t, 300_000, real, (text) => {
    const is = isToken(text, "lk");
    if (is) tokens++;
    assert.equal(is, isTokenByTheBook(text));
  });
  t.diagnostic(`${tokens} were tokens`);
  assert.ok(tokens >= real.length);
});

test("whatever is in the headers, the credential is that text and no other, or none", (t) => {
  const read = createCredentialReader({ apiKeyHeader: "x-api-key", tokenPrefix: "lk", secretKey });
  const realHashes = new Map(real.map((token) => [hashToken(token), token]));
  checkMutants(t, 300_000, corpus, (text, random) => {
    const other = random() < 0.3 ? pick(random, corpus) : undefined;
    const headers: Record<string, string | undefined> =
      random() < 0.5
        ? { "x-api-key": text, authorization: other }
        : { "x-api-key": other, authorization: text };
    const credential = read((name) => headers[name]);
    // An HTTP header's value has no line breaks: what follows one is nobody's.
    const bearer = /^bearer(?:\s+|$)(.*)$/i.exec(headers.authorization ?? "")?.[1];
    const given = [headers["x-api-key"], bearer].filter((value) => value !== undefined);
    switch (credential.kind) {
      case "none":
        assert.deepEqual(given, []);
        break;
      case "secret_key":
        assert.ok(given.every((value) => value === secretKey));
        break;
      case "api_key": {
        const [value = ""] = given;
        assert.ok(given.every((each) => each === value));
        assert.equal(credential.hash, createHash("sha256").update(value).digest("base64"));
        assert.equal(credential.foreign, !isTokenByTheBook(value));
        assert.ok(!credential.foreign || isForeignToken(value));
        const accepted = realHashes.get(credential.hash);
        assert.ok(accepted === undefined || accepted === value, "another text is taken for a token");
        break;
      }
      case "malformed":
        assert.ok(new Set(given).size === 2 || !/^[\x21-\x7e]{8,512}$/.test(given[0] ?? ""));
    }
  });
});

const openings = [
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "PRI * HTTP/1.1\r\n",
  "PROPFIND / HTTP/1.1\r\n",
  "GET / HTTP/1.1\r\n",
  "\x16\x03\x01\x02\x00",
  "P",
  "\r\n\r\nGET / HTTP/1.1\r\n",
];

test("what a connection speaks is told by its first bytes, however they are cut, and once told stays so", (t) => {
  checkMutants(t, 150_000, openings, (text) => {
    const bytes = Buffer.from(text, "latin1");
    let told: string | undefined;
    for (let length = 1; length <= Math.min(bytes.length, 20); length++) {
      const now = classify(bytes.subarray(0, length));
      if (told !== undefined) assert.equal(now, told);
      told = now;
    }
    const expected =
      bytes[0] === 0x16
        ? "tls"
        : text.startsWith("PRI * HTTP/2.0")
          ? "http2"
          : "PRI * HTTP/2.0".startsWith(text)
            ? undefined
            : "http1";
    if (bytes.length > 0) assert.equal(told, expected);
  });
});
