/** ImportApiKeys: what is taken over, what is refused, and that its clients go on as they are. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TimestampSchema, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import type postgres from "postgres";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import {
  ApiKeyStatus,
  ApiKeyType,
  type ImportedApiKey,
} from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

type Import = Partial<Omit<ImportedApiKey, "$typeName" | "$unknown">>;

let latchkey: TestServer;
let userId: bigint;
before(async () => {
  latchkey = await startServer();
  userId = (await latchkey.asStaff.users.createUser({ username: "migrated" })).id;
});
after(() => latchkey.close());

const sha256 = (token: string) => createHash("sha256").update(token).digest();
let n = 0;
/** A token of another system, unlike any other. */
const newToken = (prefix = "other-") =>
  noteSecret(`${prefix}${(++n).toString().padStart(24, "5f0e9d3c7b1a")}`);
const newHash = () => sha256(newToken()).toString("hex");
const failure = (call: Promise<unknown>) =>
  call.then(() => assert.fail("it was answered"), ConnectError.from);
const importAll = (apiKeys: Import[]) => latchkey.asStaff.keys.importApiKeys({ apiKeys });

async function importOne(key: Import) {
  const { results } = await importAll([key]);
  const [result] = results;
  assert.ok(result?.apiKey);
  return { ...result, apiKey: result.apiKey };
}

/** Whom a server knows a token's sender as, over the wire: what an anonymous or refused caller is told, else its id. */
async function whoIs(transport: Transport): Promise<string> {
  return createClient(UserService, transport)
    .updateProfile({ bio: "moved" })
    .then(
      ({ id }) => String(id),
      (error: unknown) => ConnectError.from(error).rawMessage,
    );
}

const sending = (name: string, value: string): Interceptor[] => [
  (next) => (req) => {
    req.header.set(name, value);
    return next(req);
  },
];
const asHeader = (token: string) => sending("x-api-key", token);
const asBearer = (token: string) => sending("authorization", `Bearer ${token}`);

const tokensOfOthers: Record<string, () => string> = {
  "django's": () => newToken("django-"),
  "Unkey's": () => newToken("unkey_"),
  "a UUID": () => noteSecret(crypto.randomUUID()),
  "hexadecimal digits": () => noteSecret(sha256(newToken()).toString("hex").slice(0, 40)),
  "base64 with its punctuation": () => noteSecret(`${sha256(newToken()).toString("base64").slice(0, 40)}+/=`),
  "one of our prefix without our checksum": () => newToken("lk_"),
  "a JWT": () => newToken("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0."),
};

for (const [shape, make] of Object.entries(tokensOfOthers)) {
  test(`a token of another shape (${shape}) works once its hash is imported, and no longer once it is revoked`, async () => {
    const token = make();
    const { url } = latchkey;
    const transports = [
      createGrpcTransport({ baseUrl: url, interceptors: asHeader(token) }),
      createGrpcTransport({ baseUrl: url, interceptors: asBearer(token) }),
      createConnectTransport({ baseUrl: url, httpVersion: "1.1", interceptors: asHeader(token) }),
      createConnectTransport({ baseUrl: url, httpVersion: "2", interceptors: asBearer(token) }),
      createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1", interceptors: asHeader(token) }),
    ];
    for (const transport of transports) assert.equal(await whoIs(transport), "invalid API key");
    const { apiKey, created } = await importOne({ hash: sha256(token).toString("hex"), userId, name: shape });
    assert.ok(created);
    const [first, ...others] = transports as [Transport, ...Transport[]];
    await until(
      () => whoIs(first),
      (found) => found === String(userId),
    );
    for (const transport of others) assert.equal(await whoIs(transport), String(userId));
    const counted = async () =>
      (await latchkey.asStaff.keys.getApiKey({ id: apiKey.id })).apiKey?.requestCount;
    await until(counted, (count) => count === BigInt(transports.length));

    await latchkey.asStaff.keys.revokeApiKey({ id: apiKey.id });
    await until(
      () => whoIs(first),
      (found) => found.startsWith("this API key was revoked at "),
    );
    for (const transport of others) assert.match(await whoIs(transport), /was revoked at/);
  });
}

test("an imported key is what was asked for, with its history", async () => {
  const token = newToken();
  const at = (text: string) => timestampFromDate(new Date(text));
  const key: Import = {
    hash: sha256(token).toString("hex"),
    userId,
    name: "full",
    description: "from the old system",
    type: ApiKeyType.WEBHOOK,
    start: token.slice(0, 16),
    expiresAt: at("2199-01-01T00:00:00Z"),
    allowedMethods: ["api.users.*", "other.Service/Method"],
    allowedAddresses: ["203.0.113.7/24", "2001:DB8::1"],
    createdAt: at("2021-02-03T04:05:06.789Z"),
    lastUsedAt: at("2024-05-06T23:59:59.999Z"),
  };
  const { apiKey, created } = await importOne(key);
  assert.ok(created);
  assert.equal(apiKey.userId, userId);
  assert.equal(apiKey.name, "full");
  assert.equal(apiKey.description, "from the old system");
  assert.equal(apiKey.type, ApiKeyType.WEBHOOK);
  assert.equal(apiKey.start, token.slice(0, 16));
  assert.equal(apiKey.status, ApiKeyStatus.ACTIVE);
  assert.equal(apiKey.createdBy, 1n);
  assert.equal(apiKey.requestCount, 0n);
  assert.deepEqual(
    [apiKey.createdAt, apiKey.lastUsedAt, apiKey.expiresAt].map(
      (time) => time && timestampDate(time).toISOString(),
    ),
    ["2021-02-03T04:05:06.789Z", "2024-05-06T23:59:59.999Z", "2199-01-01T00:00:00.000Z"],
  );
  const [row] = await latchkey.sql`
    SELECT imported, can_verify, allowed_methods, allowed_addresses, encode(hash, 'hex') AS hash, idle_since::text
    FROM api_keys JOIN api_key_usage ON api_key_id = id WHERE id = ${apiKey.id}`;
  assert.deepEqual(
    { ...row },
    {
      imported: true,
      can_verify: false,
      allowed_methods: ["api.users.*", "other.Service/Method"],
      allowed_addresses: ["203.0.113.0/24", "2001:db8::1/128"],
      hash: key.hash,
      idle_since: "2024-05-06",
    },
  );
});

test("a key of which little is known is of type SERVICE, made now and never used", async () => {
  const { apiKey } = await importOne({ hash: newHash(), userId, name: "plain" });
  assert.equal(apiKey.type, ApiKeyType.SERVICE);
  assert.equal(apiKey.start, "");
  assert.equal(apiKey.expiresAt, undefined);
  assert.equal(apiKey.lastUsedAt, undefined);
  assert.ok(apiKey.createdAt && Math.abs(timestampDate(apiKey.createdAt).getTime() - Date.now()) < 60_000);
  const old = await importOne({
    ...{ hash: newHash(), userId, name: "unused" },
    createdAt: timestampFromDate(new Date("2020-02-29T12:00:00Z")),
  });
  const [row] = await latchkey.sql`
    SELECT idle_since::text, last_used_at FROM api_key_usage WHERE api_key_id = ${old.apiKey.id}`;
  assert.deepEqual({ ...row }, { idle_since: "2020-02-29", last_used_at: null });
});

test("imported keys are listed where their creation puts them, those of one instant in the order given", async () => {
  const { id } = await latchkey.asStaff.users.createUser({ username: "ordered" });
  const today = await latchkey.asStaff.keys.createApiKey({ userId: id, name: "today" });
  noteSecret(today.token);
  const at = (name: string, text: string) => ({
    ...{ hash: newHash(), userId: id, name },
    createdAt: timestampFromDate(new Date(text)),
  });
  const { results } = await importAll([
    at("2022", "2022-01-01T00:00:00Z"),
    at("1970", "1970-01-01T00:00:00Z"),
    at("2023 a", "2023-01-01T00:00:00Z"),
    at("2023 b", "2023-01-01T00:00:00Z"),
    at("2023 c", "2023-01-01T00:00:00Z"),
    at("2021", "2021-01-01T00:00:00Z"),
  ]);
  const request = ["2022", "1970", "2023 a", "2023 b", "2023 c", "2021"];
  assert.deepEqual(
    results.map(({ apiKey }) => apiKey?.name),
    request,
    "results come in the order of the request",
  );
  const { apiKeys } = await latchkey.asStaff.keys.listApiKeys({ userId: id });
  assert.deepEqual(
    apiKeys.map(({ name }) => name),
    ["today", "2023 c", "2023 b", "2023 a", "2022", "2021", "1970"],
  );
});

test("a key that has expired already is imported, and refused as expired", async () => {
  const token = newToken();
  const { apiKey } = await importOne({
    ...{ hash: sha256(token).toString("hex"), userId, name: "late" },
    expiresAt: timestampFromDate(new Date("2020-01-02T03:04:05Z")),
  });
  assert.equal(apiKey.status, ApiKeyStatus.EXPIRED);
  await until(
    () => whoIs(connectTransport(latchkey.url, token)),
    (found) => found === "this API key expired at 2020-01-02T03:04:05.000Z",
  );
});

for (const [encoding, encode] of [
  ["hexadecimal", (hash: Buffer) => hash.toString("hex")],
  ["hexadecimal in upper case", (hash: Buffer) => hash.toString("hex").toUpperCase()],
  ["base64", (hash: Buffer) => hash.toString("base64")],
  ["base64 without padding", (hash: Buffer) => hash.toString("base64").replace("=", "")],
  ["base64url", (hash: Buffer) => hash.toString("base64url")],
  ["base64url with padding", (hash: Buffer) => `${hash.toString("base64url")}=`],
] as const) {
  test(`a hash is taken in ${encoding}`, async () => {
    // One that has both characters in which the alphabets differ.
    let token = newToken();
    while (!/\+.*\/|\/.*\+/.test(sha256(token).toString("base64"))) token = newToken();
    const { apiKey } = await importOne({ hash: encode(sha256(token)), userId, name: encoding });
    const [row] = await latchkey.sql`SELECT hash FROM api_keys WHERE id = ${apiKey.id}`;
    assert.deepEqual(row?.hash, sha256(token));
  });
}

const someHash = sha256("a token that nobody has").toString("hex");
const inTheFuture = timestampFromDate(new Date(Date.now() + 60_000));
for (const [problem, change, message] of [
  ["no hash", { hash: "" }, /hash must be the SHA-256 of a token/],
  ["a token for a hash", { hash: "unkey_3ZabcdefghijklmnopQRSTU" }, /hash must be the SHA-256 of a token/],
  ["a hash cut short", { hash: someHash.slice(1) }, /hash must be/],
  ["a hash that is too long", { hash: `${someHash}0` }, /hash must be/],
  ["digits that are not hexadecimal", { hash: `g${someHash.slice(1)}` }, /hash must be/],
  ["another hash function", { hash: createHash("sha512").update("a").digest("hex") }, /hash must be/],
  ["both alphabets of base64 at once", { hash: `+_${"a".repeat(41)}` }, /hash must be/],
  ["bits that no 32 bytes have", { hash: `${"a".repeat(42)}b` }, /hash must be/],
  ["no user", { userId: 0n }, /user_id must be a user's id/],
  ["no name", { name: "" }, /name must have 1 to 100 characters, not 0/],
  ["a name that is too long", { name: "n".repeat(101) }, /name must have 1 to 100 characters, not 101/],
  ["a NUL", { name: "a\0b" }, /name must not contain the character NUL/],
  ["a long description", { description: "d".repeat(1001) }, /description must have at most 1000/],
  ["a type that there is not", { type: 99 as ApiKeyType }, /type 99 is none of ApiKeyType/],
  ["a start that is too long", { start: "s".repeat(17) }, /start must have at most 16 characters/],
  [
    "a start with a space",
    { start: "a b" },
    /start must have at most 16 characters, all of them visible ASCII/,
  ],
  ["a start beyond ASCII", { start: "ä" }, /start must have/],
  [
    "the whole token for its start",
    { start: "whole-token-1234", hash: sha256("whole-token-1234").toString("hex") },
    /start must not be the whole token/,
  ],
  ["a creation to come", { createdAt: inTheFuture }, /created_at must not be in the future/],
  ["a last use to come", { lastUsedAt: inTheFuture }, /last_used_at must not be in the future/],
  [
    "a creation before all computers",
    { createdAt: timestampFromDate(new Date(-1)) },
    /created_at must not be before 1970/,
  ],
  [
    "a time that is none",
    { expiresAt: create(TimestampSchema, { seconds: 1n, nanos: -1 }) },
    /expires_at must be a time/,
  ],
  [
    "a method that is none",
    { allowedMethods: ["a.B/C", "a.B"] },
    /allowed_methods\[1\] must be a method like/,
  ],
  [
    "a method pattern that covers nothing",
    { allowedMethods: ["*.UserService/Get"] },
    /allowed_methods\[0\] must be/,
  ],
  ["an empty method", { allowedMethods: [""] }, /allowed_methods\[0\] must be/],
  [
    "too many methods",
    { allowedMethods: Array(101).fill("*") },
    /allowed_methods must have at most 100 entries, not 101/,
  ],
  [
    "an address that is none",
    { allowedAddresses: ["::1", "10.0.0.0/33"] },
    /allowed_addresses\[1\] must be an IP/,
  ],
  [
    "too many addresses",
    { allowedAddresses: Array(101).fill("::1") },
    /allowed_addresses must have at most 100/,
  ],
] as const satisfies readonly (readonly [string, Import, RegExp])[]) {
  test(`${problem} is refused, by its place, and nothing of the request is kept`, async () => {
    const good = { hash: newHash(), userId, name: "good" };
    const error = await failure(importAll([good, { hash: someHash, userId, name: "bad", ...change }]));
    assert.equal(error.code, Code.InvalidArgument);
    assert.match(error.rawMessage, /^api_keys\[1\]\./);
    assert.match(error.rawMessage, message);
    if ("hash" in change && change.hash !== "") assert.ok(!error.rawMessage.includes(change.hash));
    const kept = await latchkey.sql`SELECT 1 FROM api_keys WHERE encode(hash, 'hex') = ${good.hash}`;
    assert.equal(kept.length, 0);
  });
}

test("a hash that comes twice is refused, whatever it is written in", async () => {
  const token = newToken();
  const other = { hash: newHash(), userId, name: "other" };
  const twice = ["hex", "base64url"] as const;
  const error = await failure(
    importAll([
      other,
      ...twice.map((encoding) => ({ hash: sha256(token).toString(encoding), userId, name: encoding })),
    ]),
  );
  assert.equal(error.code, Code.InvalidArgument);
  assert.equal(error.rawMessage, "api_keys[1].hash and api_keys[2].hash are the same: send each key once");
});

test("for a user who is not there or disabled nothing is imported", async () => {
  const { id } = await latchkey.asStaff.users.createUser({ username: "off" });
  await latchkey.sql`UPDATE users SET is_active = false WHERE id = ${String(id)}`;
  for (const [user, code, message] of [
    [4242n, Code.NotFound, "user 4242 not found"],
    [id, Code.FailedPrecondition, `user ${id} is disabled`],
  ] as const) {
    const good = { hash: newHash(), userId, name: "good" };
    const error = await failure(importAll([good, { hash: newHash(), userId: user, name: "bad" }]));
    assert.deepEqual([error.code, error.rawMessage], [code, message]);
    const kept = await latchkey.sql`SELECT 1 FROM api_keys WHERE encode(hash, 'hex') = ${good.hash}`;
    assert.equal(kept.length, 0);
  }
});

test("what is known already is left as it is, so that an import can be sent again", async () => {
  const { token, apiKeyId } = await createUserAndKey(latchkey.asStaff, "known");
  const hashes = [newHash(), newHash(), newHash()];
  const first = await importAll([
    { hash: hashes[0] ?? "", userId, name: "one" },
    { hash: hashes[1] ?? "", userId, name: "two" },
  ]);
  assert.equal(first.createdCount, 2);
  const ids = first.results.map(({ apiKey }) => apiKey?.id ?? "");
  await latchkey.asStaff.keys.revokeApiKey({ id: ids[1] ?? "" });
  const again = await importAll([
    { hash: hashes[2] ?? "", userId, name: "three" },
    { hash: hashes[1] ?? "", userId, name: "another name" },
    { hash: sha256(token).toString("hex"), userId, name: "not its name" },
    { hash: hashes[0] ?? "", userId, name: "one" },
  ]);
  assert.equal(again.createdCount, 1);
  assert.deepEqual(
    again.results.map(({ created, apiKey }) => [created, apiKey?.name, apiKey?.status]),
    [
      [true, "three", ApiKeyStatus.ACTIVE],
      // A key that was revoked stays so.
      [false, "two", ApiKeyStatus.REVOKED],
      [false, "key of known", ApiKeyStatus.ACTIVE],
      [false, "one", ApiKeyStatus.ACTIVE],
    ],
  );
  assert.deepEqual(
    again.results.slice(1).map(({ apiKey }) => apiKey?.id),
    [ids[1], apiKeyId, ids[0]],
  );
});

test("imports of the same keys at the same time, in any order, make each of them once", async () => {
  const keys = Array.from({ length: 60 }, (_, i) => ({ hash: newHash(), userId, name: `same ${i}` }));
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, i) => importAll(i % 2 === 0 ? keys : keys.toReversed())),
  );
  assert.equal(
    answers.reduce((sum, { createdCount }) => sum + createdCount, 0),
    60,
  );
  const idsOf = (i: number) => new Set(answers[i]?.results.map(({ apiKey }) => apiKey?.id));
  for (let i = 1; i < answers.length; i++) assert.deepEqual([...idsOf(i)].sort(), [...idsOf(0)].sort());
});

test("imports of the same keys in different orders wait for each other, and never each for the other", async () => {
  const [low = "", high = ""] = [newHash(), newHash()].sort();
  // As another import that has got as far as the first of the two.
  const insert = (sql: postgres.ReservedSql, hash: string) => sql`
    INSERT INTO api_keys (id, user_id, name, type, hash, start, imported)
    VALUES (${crypto.randomUUID()}, ${String(userId)}, 'theirs', 'service', ${Buffer.from(hash, "hex")}, '', true)
    ON CONFLICT DO NOTHING RETURNING id`;
  const theirs = await latchkey.sql.reserve();
  await theirs`BEGIN`;
  const keys = await insert(theirs, low);
  const ours = importAll([
    { hash: high, userId, name: "ours" },
    { hash: low, userId, name: "ours" },
  ]);
  await until(
    async () =>
      await latchkey.sql`
        SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'latchkey requests' AND wait_event_type = 'Lock'`,
    (found) => found.length === 1,
  );
  keys.push(...(await insert(theirs, high)));
  await theirs`INSERT INTO api_key_usage (api_key_id) SELECT unnest(${keys.map(({ id }) => id)}::uuid[])`;
  await theirs`COMMIT`;
  theirs.release();
  const { results } = await ours;
  assert.deepEqual(
    results.map(({ created, apiKey }) => [created, apiKey?.name]),
    [
      [false, "theirs"],
      [false, "theirs"],
    ],
  );
});

test("each key that is made leaves an event of who imported what, and neither hash nor token", async () => {
  const hashes = [newHash(), newHash()];
  const grace = await createUserAndKey(latchkey.asStaff, "grace");
  await latchkey.sql`UPDATE users SET is_staff = true WHERE username = 'grace'`;
  const mine = latchkey.as(grace.token).keys;
  const apiKeys = hashes.map((hash, i) => ({
    ...{ hash, userId, name: `audited ${i}`, start: "abc" },
    allowedMethods: ["a.*"],
  }));
  const headers = { "x-request-id": "import-1" };
  const { results } = await until(
    () => mine.importApiKeys({ apiKeys }, { headers }).catch(() => ({ results: [] })),
    (found) => found.results.length > 0,
  );
  await mine.importApiKeys({ apiKeys }, { headers });
  const events = await latchkey.sql`
    SELECT action, actor_user_id, actor_api_key_id, target_user_id, target_api_key_id, peer_address, before, after
    FROM audit_events WHERE request_id = 'import-1' ORDER BY id`;
  assert.equal(events.length, 2);
  for (const [i, event] of events.entries()) {
    const { after, ...who } = event;
    assert.deepEqual(who, {
      action: "api_key.import",
      actor_user_id: String(grace.userId),
      actor_api_key_id: grace.apiKeyId,
      target_user_id: String(userId),
      target_api_key_id: results[i]?.apiKey?.id,
      peer_address: "127.0.0.1",
      before: null,
    });
    assert.equal(after.name, `audited ${i}`);
    assert.deepEqual(after.allowed_methods, ["a.*"]);
    const digest = Buffer.from(hashes[i] ?? "", "hex");
    for (const form of ["hex", "base64", "base64url"] as const) {
      assert.ok(!JSON.stringify(event).includes(digest.toString(form)));
    }
  }
});

test("only staff may import", async () => {
  const { token, userId: own } = await createUserAndKey(latchkey.asStaff, "not-staff");
  const apiKeys = [{ hash: newHash(), userId: own, name: "mine" }];
  const refused = await failure(latchkey.as(token).keys.importApiKeys({ apiKeys }));
  assert.equal(refused.code, Code.PermissionDenied);
  const nobody = clientsOf(connectTransport(latchkey.url, undefined)).keys;
  assert.equal((await failure(nobody.importApiKeys({ apiKeys }))).code, Code.Unauthenticated);
});

test("with authentication switched off nobody may import", async (t) => {
  const open = await startServer({ authEnabled: false, databaseUrl: latchkey.databaseUrl });
  t.after(() => open.close());
  const apiKeys = [{ hash: newHash(), userId, name: "mine" }];
  assert.equal((await failure(open.asStaff.keys.importApiKeys({ apiKeys }))).code, Code.Unauthenticated);
});

test("a key imports nothing that may do more than it may itself", async () => {
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "limited");
  await latchkey.sql`UPDATE users SET is_staff = true WHERE username = 'limited'`;
  await latchkey.sql`
    UPDATE api_keys SET expires_at = '2190-01-01', allowed_addresses = '{127.0.0.0/8}',
      allowed_methods = '{latchkey.v1.ApiKeyService/*,api.users.*}'
    WHERE id = ${apiKeyId}`;
  const mine = latchkey.as(token).keys;
  const within: Import = {
    ...{ hash: newHash(), userId, name: "within" },
    allowedMethods: ["api.users.UserService/*", "latchkey.v1.ApiKeyService/GetApiKey"],
    allowedAddresses: ["127.1.0.0/16"],
    expiresAt: timestampFromDate(new Date("2189-12-31")),
  };
  const attempt = (change: Import) =>
    mine
      .importApiKeys({
        apiKeys: [
          { ...within, hash: newHash() },
          { ...within, hash: newHash(), ...change },
        ],
      })
      .then(({ createdCount }) => createdCount, ConnectError.from);
  await until(
    () => attempt({}),
    (found) => found === 2,
  );
  for (const change of [
    { allowedMethods: [] },
    { allowedMethods: ["*"] },
    { allowedMethods: ["api.*"] },
    { allowedMethods: ["api.users.UserService/*", "latchkey.v1.*"] },
    { allowedMethods: ["latchkey.v1.ApiKeyServiceX/A"] },
    { allowedAddresses: [] },
    { allowedAddresses: ["126.0.0.0/7"] },
    { allowedAddresses: ["127.0.0.1", "::1"] },
    { expiresAt: timestampFromDate(new Date("2190-01-01T00:00:00.001Z")) },
    // An unset field counts, too: never.
    { expiresAt: undefined as never },
  ] satisfies Import[]) {
    const error = await attempt(change);
    assert.ok(
      error instanceof ConnectError,
      JSON.stringify(change.allowedMethods ?? change.allowedAddresses),
    );
    assert.equal(error.code, Code.PermissionDenied);
    assert.match(
      error.rawMessage,
      /^api_keys\[1\]\.(allowed_methods|allowed_addresses|expires_at): .*your API key/,
    );
  }
});

test("a thousand keys are taken at once and accepted by every instance; a thousand and one are refused", async (t) => {
  const other = await startServer({ databaseUrl: latchkey.databaseUrl });
  t.after(() => other.close());
  const tokens = Array.from({ length: 1000 }, () => newToken("bulk-"));
  const apiKeys = tokens.map((token, i) => ({
    hash: sha256(token).toString("base64"),
    userId,
    name: `bulk ${i}`,
  }));
  const ask = (server: TestServer, token: string) => whoIs(connectTransport(server.url, token));
  const sample = [tokens[0], tokens[500], tokens[999]] as [string, string, string];
  // Each instance remembers that nobody has them, before.
  for (const server of [latchkey, other]) {
    for (const token of sample) assert.equal(await ask(server, token), "invalid API key");
  }
  const tooMany = await failure(importAll([...apiKeys, { hash: newHash(), userId, name: "one more" }]));
  assert.equal(tooMany.code, Code.InvalidArgument);
  assert.match(tooMany.rawMessage, /^api_keys must have at most 1000 items, not 1001/);

  const { createdCount } = await importAll(apiKeys);
  assert.equal(createdCount, 1000);
  for (const server of [latchkey, other]) {
    for (const token of sample) {
      await until(
        () => ask(server, token),
        (found) => found === String(userId),
      );
    }
  }
  assert.deepEqual((await importAll([])).results, []);
});
