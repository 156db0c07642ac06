/** Which credential a request carries, by its headers. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { type Credential, createCredentialReader } from "../../src/auth/credential.ts";
import { createSessionSecrets } from "../../src/auth/session-secret.ts";
import { createToken } from "../../src/auth/token.ts";

const token = createToken("lk");
const other = createToken("lk");
const foreign = createToken("my_app");
const damaged = `${token.slice(0, -1)}${token.endsWith("a") ? "b" : "a"}`;
const secretKey = "sk_test_0123456789abcdef";

const none: Credential = { kind: "none" };
const malformed: Credential = { kind: "malformed" };
const secret: Credential = { kind: "secret_key" };
const key: Credential = {
  kind: "api_key",
  hash: createHash("sha256").update(token).digest("base64"),
  foreign: false,
};
/** What only an imported key can have. */
const foreignKey = (value: string): Credential => ({
  kind: "api_key",
  hash: createHash("sha256").update(value).digest("base64"),
  foreign: true,
});

type Case = readonly [name: string, headers: Record<string, string>, expected: Credential];

function read(headers: Record<string, string>, options: { secretKey?: string; apiKeyHeader?: string } = {}) {
  const reader = createCredentialReader({
    apiKeyHeader: options.apiKeyHeader ?? "x-api-key",
    tokenPrefix: "lk",
    secretKey: options.secretKey,
  });
  const web = new Headers(headers);
  const fromWeb = reader((name) => web.get(name));
  // Node's own headers say undefined where Headers say null.
  assert.deepEqual(
    reader((name) => headers[name]),
    fromWeb,
  );
  return fromWeb;
}

const cases: readonly Case[] = [
  ["no header", {}, none],
  ["a token in the header", { "x-api-key": token }, key],
  ["a token as bearer", { authorization: `Bearer ${token}` }, key],
  ["the scheme in lower case", { authorization: `bearer ${token}` }, key],
  ["the scheme in upper case", { authorization: `BEARER ${token}` }, key],
  ["several spaces behind the scheme", { authorization: `Bearer   ${token}` }, key],
  ["the same token in both", { "x-api-key": token, authorization: `Bearer ${token}` }, key],
  ["two different tokens", { "x-api-key": token, authorization: `Bearer ${other}` }, malformed],
  ["a token and a malformed bearer", { "x-api-key": token, authorization: "Bearer nonsense" }, malformed],
  [
    "a malformed header and a token as bearer",
    { "x-api-key": "nonsense", authorization: `Bearer ${token}` },
    malformed,
  ],
  ["a token and an empty bearer", { "x-api-key": token, authorization: "Bearer" }, malformed],
  ["an empty header and a token as bearer", { "x-api-key": "", authorization: `Bearer ${token}` }, malformed],
  [
    "two that differ by case alone",
    { "x-api-key": token, authorization: `Bearer ${swapCase(token)}` },
    malformed,
  ],
  [
    "the same nonsense in both",
    { "x-api-key": "nonsense", authorization: "Bearer nonsense" },
    foreignKey("nonsense"),
  ],
  ["an empty header", { "x-api-key": "" }, malformed],
  ["Bearer alone", { authorization: "Bearer" }, malformed],
  ["Basic", { authorization: "Basic YTpi" }, none],
  ["Digest", { authorization: 'Digest username="a"' }, none],
  ["an empty authorization", { authorization: "" }, none],
  ["a token without a scheme", { authorization: token }, none],
  ["a scheme that only begins like Bearer", { authorization: `Bearers ${token}` }, none],
  ["Bearer within another scheme", { authorization: `Basic Bearer ${token}` }, none],
  ["Bearer with no space", { authorization: `Bearer${token}` }, none],
  ["a token beside Basic", { "x-api-key": token, authorization: "Basic YTpi" }, key],
  ["nonsense in the header", { "x-api-key": "nonsense" }, foreignKey("nonsense")],
  ["nonsense as bearer", { authorization: "Bearer nonsense" }, foreignKey("nonsense")],
  ["less than 8 characters", { "x-api-key": "1234567" }, malformed],
  ["more than 512 characters", { "x-api-key": "a".repeat(513) }, malformed],
  ["512 characters", { "x-api-key": "a".repeat(512) }, foreignKey("a".repeat(512))],
  ["letters beyond ASCII", { "x-api-key": "schl\u00fcssel-1" }, malformed],
  ["a scheme in the header", { "x-api-key": `Bearer ${token}` }, malformed],
  ["two schemes", { authorization: `Bearer Bearer ${token}` }, malformed],
  ["two tokens as bearer", { authorization: `Bearer ${token}, ${other}` }, malformed],
  ["the header twice, as hosts join it", { "x-api-key": `${token}, ${token}` }, malformed],
  ["a token of another prefix", { "x-api-key": foreign }, foreignKey(foreign)],
  ["a token with its checksum wrong", { "x-api-key": damaged }, foreignKey(damaged)],
  ["a token in another header", { "x-apikey": token, cookie: `key=${token}` }, none],
  ["the secret key, where none is accepted", { "x-api-key": secretKey }, foreignKey(secretKey)],
];

for (const [name, headers, expected] of cases) {
  test(`${name}: ${expected.kind}`, () => assert.deepEqual(read(headers), expected));
}

const withSecretKey: readonly Case[] = [
  ["no header", {}, none],
  ["the secret key in the header", { "x-api-key": secretKey }, secret],
  ["the secret key as bearer", { authorization: `Bearer ${secretKey}` }, secret],
  ["the secret key in both", { "x-api-key": secretKey, authorization: `bearer ${secretKey}` }, secret],
  ["the secret key and a token", { "x-api-key": secretKey, authorization: `Bearer ${token}` }, malformed],
  ["a token and the secret key", { "x-api-key": token, authorization: `Bearer ${secretKey}` }, malformed],
  ["the secret key cut short", { "x-api-key": secretKey.slice(0, -1) }, foreignKey(secretKey.slice(0, -1))],
  ["the secret key with more behind it", { "x-api-key": `${secretKey}0` }, foreignKey(`${secretKey}0`)],
  [
    "the secret key in upper case",
    { "x-api-key": secretKey.toUpperCase() },
    foreignKey(secretKey.toUpperCase()),
  ],
  ["an empty header", { "x-api-key": "" }, malformed],
  ["a token", { "x-api-key": token }, key],
];

for (const [name, headers, expected] of withSecretKey) {
  test(`where a secret key is accepted, ${name}: ${expected.kind}`, () => {
    assert.deepEqual(read(headers, { secretKey }), expected);
  });
}

test("a secret key that looks like a token signs in as the secret key", () => {
  assert.deepEqual(read({ "x-api-key": token }, { secretKey: token }), secret);
});

test("the header is the one that is configured, and no other", () => {
  const options = { apiKeyHeader: "x-acme-key" };
  assert.deepEqual(read({ "x-acme-key": token }, options), key);
  assert.deepEqual(read({ "x-api-key": token }, options), none);
  assert.deepEqual(read({ "x-api-key": other, "x-acme-key": token }, options), key);
  assert.deepEqual(read({ authorization: `Bearer ${token}` }, options), key);
});

test("what was read holds the hash of the token, not the token", () => {
  for (const headers of [
    { "x-api-key": token },
    { authorization: `Bearer ${token}` },
    { "x-api-key": foreign },
  ]) {
    const text = JSON.stringify(read(headers, { secretKey }));
    assert.ok(!text.includes(token.slice(3, 20)) && !text.includes(foreign.slice(7, 20)));
  }
  assert.ok(!JSON.stringify(read({ "x-api-key": secretKey }, { secretKey })).includes(secretKey));
});

function swapCase(text: string): string {
  return text.replace(/[a-z]/gi, (c) => (c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()));
}

const sessions = createSessionSecrets({ tokenPrefix: "lk", secretKey });
const session = sessions.create("api_key");
const ofSecretKey = sessions.create("secret_key");
const own = { host: "keys.example", "sec-fetch-site": "same-origin" };
const cookie = (value: string, name = "latchkey_session") => ({ cookie: `${name}=${value}` });
const isSession = (hash: string | undefined): Credential => ({ kind: "session", hash });

const cookieCases: readonly Case[] = [
  ["a session's cookie", { ...own, ...cookie(session.value) }, isSession(session.hash)],
  ["the secret key's", { ...own, ...cookie(ofSecretKey.value) }, isSession(ofSecretKey.hash)],
  ["among others", { ...own, cookie: `a=1; latchkey_session=${session.value};b=2` }, isSession(session.hash)],
  [
    "of the name for TLS",
    { ...own, ...cookie(session.value, "__Host-latchkey_session") },
    isSession(session.hash),
  ],
  [
    "both, of which the one for TLS counts",
    { ...own, cookie: `latchkey_session=${ofSecretKey.value}; __Host-latchkey_session=${session.value}` },
    isSession(session.hash),
  ],
  [
    "twice",
    { ...own, cookie: `latchkey_session=${session.value}; latchkey_session=${session.value}` },
    isSession(undefined),
  ],
  ["of no session's shape", { ...own, ...cookie("nonsense") }, isSession(undefined)],
  ["empty", { ...own, ...cookie("") }, isSession(undefined)],
  ["damaged", { ...own, ...cookie(damaged) }, isSession(undefined)],
  ["of another name", { ...own, ...cookie(session.value, "my_latchkey_session") }, none],
  ["a value that names it", { ...own, cookie: `a=latchkey_session=${session.value}` }, none],
  [
    "from elsewhere",
    { host: "keys.example", "sec-fetch-site": "cross-site", ...cookie(session.value) },
    { kind: "cross_site" },
  ],
  ["from nowhere", cookie(session.value), { kind: "cross_site" }],
  [
    "with our origin",
    { host: "keys.example", origin: "http://keys.example", ...cookie(session.value) },
    isSession(session.hash),
  ],
  [
    "with our origin, its port said",
    { host: "keys.example:80", origin: "http://KEYS.example", ...cookie(session.value) },
    isSession(session.hash),
  ],
  [
    "with our origin and no host",
    { origin: "http://keys.example", ...cookie(session.value) },
    { kind: "cross_site" },
  ],
  [
    "with another port's origin",
    { host: "keys.example", origin: "http://keys.example:81", ...cookie(session.value) },
    { kind: "cross_site" },
  ],
  ["beside a token", { ...own, ...cookie(session.value), "x-api-key": token }, key],
  ["beside a bearer token", { ...own, ...cookie(session.value), authorization: `Bearer ${token}` }, key],
  ["beside a malformed token", { ...own, ...cookie(session.value), "x-api-key": "x" }, malformed],
  [
    "beside another scheme",
    { ...own, ...cookie(session.value), authorization: "Basic YTpi" },
    isSession(session.hash),
  ],
];
for (const [name, headers, expected] of cookieCases) {
  test(`cookie: ${name}`, () => {
    const reader = createCredentialReader({
      apiKeyHeader: "x-api-key",
      tokenPrefix: "lk",
      secretKey,
      sessions,
    });
    assert.deepEqual(
      reader((header) => headers[header]),
      expected,
    );
    const without = createCredentialReader({ apiKeyHeader: "x-api-key", tokenPrefix: "lk", secretKey });
    const { cookie: _, ...others } = headers;
    assert.deepEqual(
      without((header) => headers[header]),
      without((header) => (others as Record<string, string>)[header]),
    );
  });
}

test("a session of the secret key has another hash under another secret key, and none without", () => {
  const other = createSessionSecrets({ tokenPrefix: "lk", secretKey: "sk_test_another_secret_key" });
  const without = createSessionSecrets({ tokenPrefix: "lk", secretKey: undefined });
  assert.notEqual(other.hash(ofSecretKey.value), ofSecretKey.hash);
  assert.notEqual(other.hash(ofSecretKey.value), undefined);
  assert.equal(without.hash(ofSecretKey.value), undefined);
  assert.equal(without.hash(session.value), session.hash);
  assert.throws(() => without.create("secret_key"));
});
