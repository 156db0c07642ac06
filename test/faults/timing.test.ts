/** How long a refusal takes does not tell how much of a token was right. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { createCredentialReader } from "../../src/auth/credential.ts";
import { createGrant, type Grant } from "../../src/auth/grant.ts";
import { createToken, hashToken, isToken } from "../../src/auth/token.ts";
import { createDecide } from "../../src/auth/verdict.ts";
import { createGrantCache } from "../../src/keys/cache.ts";
import { noteSecret } from "../harness/secrets.ts";

const secretKey = noteSecret("sk_test_0123456789abcdef0123456789abcdef");
const method = { service: "api.users.UserService", name: "GetUser" };
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** A token with 30 random characters of another, and a right checksum. */
function alike(token: string): string {
  const made = createToken("lk");
  // The two characters that are left are searched for until the rest of a token is found: 3,844 tries at most each.
  for (;;) {
    const body = `${token.slice(3, 33)}${digits[Math.floor(Math.random() * 62)]}${digits[Math.floor(Math.random() * 62)]}`;
    const candidate = withChecksum(body);
    if (candidate !== token && candidate !== made) return noteSecret(candidate);
  }
}

function withChecksum(body: string): string {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(body)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  let rest = (crc ^ 0xffffffff) >>> 0;
  let checksum = "";
  for (let i = 0; i < 6; i++) {
    checksum = digits[rest % 62] + checksum;
    rest = Math.floor(rest / 62);
  }
  const token = `lk_${body}${checksum}`;
  assert.ok(isToken(token, "lk"));
  return token;
}

/** A verdict on a header, with one key in memory and a database that has no other. */
function setUp(known: string) {
  const grants = createGrantCache({
    readGrants: async (hashes) =>
      new Map(hashes.filter((hash) => hash === hashToken(known)).map((hash) => [hash, grantOf(hash)])),
    hasImportedKeys: async () => false,
    readFirstStaffUser: async () => undefined,
    fence: {
      isFresh: () => true,
      caughtUp: async () => {},
      provenAtMs: () => performance.now(),
      onChange: () => () => {},
      onDatabaseUp: () => () => {},
      close: async () => {},
    },
    maxStalenessMs: 60_000,
    staleIfErrorMs: 0,
    maxEntries: 100,
  });
  const decide = createDecide({ authEnabled: true, grants });
  const read = createCredentialReader({ apiKeyHeader: "x-api-key", tokenPrefix: "lk", secretKey });
  return (value: string) =>
    decide({
      method,
      access: "authenticated",
      credential: read((name) => (name === "x-api-key" ? value : undefined)),
      peerAddress: "192.0.2.1",
    });
}

function grantOf(apiKeyId: string): Grant {
  const rights = {
    allowedMethods: [],
    allowedAddresses: [],
    canVerify: false,
    isStaff: false,
    isActive: true,
  };
  const ends = { expiresAtMs: undefined, revokedAtMs: undefined };
  return createGrant({ apiKeyId, userId: 7n, username: "ada", ...ends, ...rights });
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/**
 * Times two ways in turns, many rounds of many calls, and compares the medians of
 * the rounds: what disturbs the machine disturbs both. The bound is far above the
 * noise and far below what a comparison character by character would save.
 */
async function compare(
  t: TestContext,
  ways: Record<"alike" | "random", (n: number) => unknown>,
  bound: number,
): Promise<void> {
  const rounds = 120;
  const calls = 100;
  const timesUs = { alike: [] as number[], random: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? (["alike", "random"] as const) : (["random", "alike"] as const)) {
      const startedMs = performance.now();
      for (let n = 0; n < calls; n++) await ways[way](round * calls + n);
      // The first rounds are those of a compiler at work.
      if (round >= 20) timesUs[way].push(((performance.now() - startedMs) / calls) * 1000);
    }
  }
  const [a, b] = [median(timesUs.alike), median(timesUs.random)];
  t.diagnostic(`medians: alike ${a.toFixed(2)} µs, random ${b.toFixed(2)} µs, ratio ${(a / b).toFixed(3)}`);
  assert.ok(Math.abs(Math.log(a / b)) < Math.log(bound), `${a} µs against ${b} µs`);
}

test("refusing a token that shares 30 characters with a good one takes as long as refusing a random one", async (t) => {
  const good = noteSecret(createToken("lk"));
  const verdictOn = setUp(good);
  assert.equal((await verdictOn(good)).denial, undefined);
  const near = Array.from({ length: 1000 }, () => alike(good));
  const far = Array.from({ length: 1000 }, () => noteSecret(createToken("lk")));
  for (const token of [...near, ...far]) assert.equal((await verdictOn(token)).denial, "UNKNOWN");
  await compare(
    t,
    { alike: (n) => verdictOn(near[n % 1000] ?? ""), random: (n) => verdictOn(far[n % 1000] ?? "") },
    1.5,
  );
});

test("refusing a secret key that is right but for its last character takes as long as refusing a random one", async (t) => {
  const verdictOn = setUp(createToken("lk"));
  const near = `${secretKey.slice(0, -1)}!`;
  const far = "X".repeat(secretKey.length);
  for (const value of [near, far]) assert.equal((await verdictOn(value)).denial, "MALFORMED");
  await compare(t, { alike: () => verdictOn(near), random: () => verdictOn(far) }, 1.5);
});

test("no part of the secret key, and nothing longer, is the secret key", () => {
  const read = createCredentialReader({ apiKeyHeader: "x-api-key", tokenPrefix: "lk", secretKey });
  const kindOf = (value: string) => read((name) => (name === "x-api-key" ? value : undefined)).kind;
  assert.equal(kindOf(secretKey), "secret_key");
  for (let length = 0; length < secretKey.length; length++) {
    assert.notEqual(kindOf(secretKey.slice(0, length)), "secret_key");
    assert.notEqual(kindOf(secretKey.slice(length + 1)), "secret_key");
    const [head, tail] = [secretKey.slice(0, length), secretKey.slice(length + 1)];
    assert.notEqual(kindOf(`${head}~${tail}`), "secret_key");
  }
  for (const more of ["0", " ", "\0", "\n", secretKey])
    assert.notEqual(kindOf(secretKey + more), "secret_key");
});

test("the secret key is compared by digests of one length, in constant time, and by nothing else", () => {
  const source = readFileSync(new URL("../../src/auth/credential.ts", import.meta.url), "utf8");
  assert.match(source, /timingSafeEqual\(digest\(value\), secretDigest\)/);
  assert.match(source, /createHash\("sha256"\)/);
  const uses = source.match(/secretKey\b/g) ?? [];
  // Declared, asked whether it is set, and digested.
  assert.equal(uses.length, 3, "another use of the secret key: is it constant-time too?");
});
