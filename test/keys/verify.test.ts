/** VerifyApiKey and BatchVerifyApiKeys: who may ask, what they are told, and what is counted of it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { createToken } from "../../src/auth/token.ts";
import { Health } from "../../src/gen/health/v1/health_pb.js";
import type {
  ApiKeyVerdict,
  VerifyApiKeyRequestSchema,
} from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { CredentialKind, DenialReason } from "../../src/gen/latchkey/v1/verdict_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  secretKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

type Request = MessageInitShape<typeof VerifyApiKeyRequestSchema>;
type Key = { userId: bigint; apiKeyId: string; token: string };

const getUser = "api.users.UserService/GetUser";
const updateProfile = "api.users.UserService/UpdateProfile";
const createUser = "api.users.UserService/CreateUser";

let latchkey: TestServer;
const keys: Record<string, Key> = {};
const tokens: Record<string, string> = {};
before(async () => {
  latchkey = await startServer({ publicMethods: ["api.users.UserService/ListUsers"] });
  const { asStaff, sql } = latchkey;
  for (const name of ["ada", "grace", "old", "gone", "dora", "here", "home", "gate", "narrow-gate"]) {
    keys[name] = await createUserAndKey(asStaff, name);
    tokens[name] = keys[name].token;
  }
  const idOf = (name: string) => keys[name]?.apiKeyId ?? "";
  await sql`UPDATE users SET is_staff = true WHERE username = 'grace'`;
  await sql`UPDATE users SET is_active = false WHERE username = 'dora'`;
  await sql`UPDATE api_keys SET expires_at = '2020-01-02T03:04:05.678Z' WHERE id = ${idOf("old")}`;
  await sql`UPDATE api_keys SET revoked_at = '2021-02-03T04:05:06.789Z' WHERE id = ${idOf("gone")}`;
  await sql`UPDATE api_keys SET allowed_methods = ${["api.users.UserService/GetUser", "other.*"]} WHERE id = ${idOf("here")}`;
  await sql`UPDATE api_keys SET allowed_addresses = ${["203.0.113.0/24", "2001:db8::/32"]} WHERE id = ${idOf("home")}`;
  await sql`UPDATE api_keys SET can_verify = true WHERE id IN (${idOf("gate")}, ${idOf("narrow-gate")})`;
  await sql`UPDATE api_keys SET allowed_methods = '{api.users.*}' WHERE id = ${idOf("narrow-gate")}`;
  tokens.unknown = noteSecret(createToken("lk"));
  tokens.damaged = noteSecret(`${tokens.ada?.slice(0, -1)}${tokens.ada?.endsWith("a") ? "b" : "a"}`);
  tokens.foreign = noteSecret("unkey_3ZabcdefghijklmnopQRSTU");
  tokens.short = "short";
  tokens["secret key"] = secretKey;
  tokens.none = "";
  // What was changed in SQL has come round once the last of it has.
  await until(
    () => asStaff.keys.verifyApiKey({ token: tokens["narrow-gate"] ?? "", method: "a.B/C", skipUsage: true }),
    ({ verdict }) => verdict?.denialReason === DenialReason.METHOD_NOT_ALLOWED,
  );
});
after(() => latchkey.close());

/** Verifies without leaving a trace. */
async function verdict(request: Request): Promise<ApiKeyVerdict> {
  const answer = await latchkey.asStaff.keys.verifyApiKey({ skipUsage: true, ...request });
  assert.ok(answer.verdict);
  return answer.verdict;
}

const failure = (call: Promise<unknown>) =>
  call.then(() => assert.fail("it was answered"), ConnectError.from);

test("staff and keys with can_verify may ask; others are refused, and anonymous callers are unauthenticated", async () => {
  const request = { token: tokens.ada ?? "", method: getUser, skipUsage: true };
  for (const name of ["grace", "gate", "secret key"]) {
    const mine = latchkey.as(tokens[name] ?? "").keys;
    assert.equal((await mine.verifyApiKey(request)).verdict?.allowed, true, name);
    const { verdicts } = await mine.batchVerifyApiKeys({ requests: [request, request] });
    assert.deepEqual(
      verdicts.map(({ allowed }) => allowed),
      [true, true],
      name,
    );
  }
  for (const [name, code] of [
    ["ada", Code.PermissionDenied],
    // It may verify, but the methods that it may call leave that out.
    ["narrow-gate", Code.PermissionDenied],
    ["old", Code.Unauthenticated],
    ["unknown", Code.Unauthenticated],
  ] as const) {
    const mine = latchkey.as(tokens[name] ?? "").keys;
    assert.equal((await failure(mine.verifyApiKey(request))).code, code, name);
    assert.equal((await failure(mine.batchVerifyApiKeys({ requests: [request] }))).code, code, name);
    // Nothing is given away by what is checked first.
    assert.equal((await failure(mine.verifyApiKey({ method: "?" }))).code, code, name);
  }
  const nobody = clientsOf(connectTransport(latchkey.url, undefined)).keys;
  assert.equal((await failure(nobody.verifyApiKey(request))).code, Code.Unauthenticated);
  assert.equal(
    (await failure(nobody.batchVerifyApiKeys({ requests: [request] }))).code,
    Code.Unauthenticated,
  );
});

test("a key that may verify no more is refused", async () => {
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "was-gate");
  const ask = () =>
    latchkey
      .as(token)
      .keys.verifyApiKey({ token: tokens.ada ?? "", skipUsage: true })
      .then(
        () => "ok",
        (error: unknown) => ConnectError.from(error).rawMessage,
      );
  assert.equal(await ask(), "this needs a staff user's API key, or one with can_verify");
  await latchkey.sql`UPDATE api_keys SET can_verify = true WHERE id = ${apiKeyId}`;
  await until(ask, (found) => found === "ok");
  await latchkey.sql`UPDATE api_keys SET can_verify = false WHERE id = ${apiKeyId}`;
  await until(ask, (found) => found !== "ok");
});

for (const [token, method, address, outcome, principal] of [
  ["ada", getUser, "", "ok", "ada"],
  ["ada", `/${updateProfile}`, "", "ok", "ada"],
  ["ada", createUser, "", "STAFF_REQUIRED", "ada"],
  ["ada", "other.Service/Any", "198.51.100.1", "ok", "ada"],
  ["ada", "", "", "ok", "ada"],
  ["grace", createUser, "", "ok", "grace"],
  ["none", getUser, "", "ok", undefined],
  ["none", updateProfile, "", "MISSING", undefined],
  ["none", "other.Service/Any", "", "MISSING", undefined],
  ["none", "", "", "MISSING", undefined],
  ["short", getUser, "", "MALFORMED", undefined],
  ["damaged", getUser, "", "MALFORMED", undefined],
  ["foreign", getUser, "", "MALFORMED", undefined],
  ["unknown", getUser, "", "UNKNOWN", undefined],
  ["unknown", "", "", "UNKNOWN", undefined],
  ["gone", getUser, "", "REVOKED", undefined],
  ["old", getUser, "", "EXPIRED", undefined],
  ["dora", getUser, "", "USER_DISABLED", undefined],
  ["here", getUser, "", "ok", "here"],
  ["here", "other.pkg.Service/Any", "", "ok", "here"],
  ["here", updateProfile, "", "METHOD_NOT_ALLOWED", "here"],
  ["here", "", "", "METHOD_NOT_ALLOWED", "here"],
  ["home", getUser, "203.0.113.77", "ok", "home"],
  ["home", getUser, "::ffff:203.0.113.77", "ok", "home"],
  ["home", getUser, "2001:DB8::7", "ok", "home"],
  ["home", getUser, "203.0.114.1", "ADDRESS_NOT_ALLOWED", undefined],
  ["home", getUser, "", "ADDRESS_NOT_ALLOWED", undefined],
  ["secret key", createUser, "", "ok", "admin"],
  // Public, whatever the token: a good one names its principal, another counts as anonymous.
  ["ada", "grpc.health.v1.Health/Check", "", "ok", "ada"],
  ["unknown", "grpc.health.v1.Health/Check", "", "ok", undefined],
  ["gone", "api.users.UserService/ListUsers", "", "ok", undefined],
  ["home", "api.users.UserService/ListUsers", "203.0.114.1", "ok", undefined],
  ["here", "api.users.UserService/ListUsers", "", "ok", "here"],
] as const) {
  test(`${token} asked for ${method || "no method"} from ${address || "nowhere"}: ${outcome}`, async () => {
    const found = await verdict({ token: tokens[token] ?? "", method, address });
    assert.equal(found.allowed, outcome === "ok");
    assert.equal(found.denialReason, outcome === "ok" ? DenialReason.UNSPECIFIED : DenialReason[outcome]);
    assert.equal(found.message === "", outcome === "ok");
    const key = principal === undefined ? undefined : keys[principal];
    assert.deepEqual(
      found.principal && { ...found.principal, $typeName: undefined },
      principal && {
        $typeName: undefined,
        userId: key?.userId ?? 1n,
        username: principal,
        isStaff: principal === "grace" || principal === "admin",
        credentialKind: key === undefined ? CredentialKind.SECRET_KEY : CredentialKind.API_KEY,
        apiKeyId: key?.apiKeyId ?? "",
      },
    );
    const since = { REVOKED: "2021-02-03T04:05:06.789Z", EXPIRED: "2020-01-02T03:04:05.678Z" }[
      outcome as string
    ];
    assert.equal(found.deniedSince && timestampDate(found.deniedSince).toISOString(), since);
    if (since !== undefined) assert.ok(found.message.endsWith(since), found.message);
  });
}

test("the verdict is what the server itself answers, for each token and method", async () => {
  const ask = async (token: string, method: string) => {
    const mine = connectTransport(latchkey.url, token === "" ? undefined : token);
    const { users } = clientsOf(mine);
    switch (method) {
      case getUser:
        return users.getUser({ userId: 1n });
      case updateProfile:
        return users.updateProfile({ bio: "" });
      case createUser:
        // What the handler has to say of it comes after the verdict.
        return users.createUser({ username: "", email: "" }).catch((error: unknown) => {
          if (ConnectError.from(error).code !== Code.InvalidArgument) throw error;
        });
      default:
        return createClient(Health, mine).check({});
    }
  };
  for (const [name, token] of Object.entries(tokens)) {
    for (const method of [getUser, updateProfile, createUser, "grpc.health.v1.Health/Check"]) {
      const answered = await ask(token, method).then(
        () => ["ok", ""],
        (error: unknown) => {
          const { code, rawMessage } = ConnectError.from(error);
          return [codeToString(code), rawMessage];
        },
      );
      const { code, message } = await verdict({ token, method, address: "127.0.0.1" });
      assert.deepEqual([code, message], answered, `${name}, ${method}`);
    }
  }
});

test("a key may be asked about with its own token", async () => {
  const token = tokens.gate ?? "";
  const answer = await latchkey.as(token).keys.verifyApiKey({ token, method: getUser, skipUsage: true });
  assert.equal(answer.verdict?.principal?.apiKeyId, keys.gate?.apiKeyId);
});

const fieldMessages = {
  method: "method must be a method like api.users.UserService/GetUser, or empty",
  address: "address must be an IP address like 203.0.113.7, or empty",
};

for (const [field, request] of [
  ["method", { method: "GetUser" }],
  ["method", { method: "api.users.UserService" }],
  ["method", { method: "//api.users.UserService/GetUser" }],
  ["method", { method: "api.users.UserService/GetUser/" }],
  ["method", { method: "api..UserService/GetUser" }],
  ["method", { method: "api.users.UserService/*" }],
  ["method", { method: "api.users.UserService/Get User" }],
  ["method", { method: " api.users.UserService/GetUser" }],
  ["method", { method: "api.users.UserService/GetUser\n" }],
  ["method", { method: `a.${"b".repeat(510)}/C` }],
  ["address", { address: "localhost" }],
  ["address", { address: "203.0.113.7:80" }],
  ["address", { address: "203.0.113.0/24" }],
  ["address", { address: "fe80::1%eth0" }],
  ["address", { address: "203.0.113" }],
] as const) {
  test(`${JSON.stringify(request).slice(0, 60)} is refused as no ${field}, in a batch by its place`, async () => {
    const alone = await failure(latchkey.asStaff.keys.verifyApiKey(request));
    assert.equal(alone.code, Code.InvalidArgument);
    // Word for word: what was sent, which may be a token in the wrong field, is not told.
    assert.equal(alone.rawMessage, fieldMessages[field]);
    const { keys } = latchkey.asStaff;
    const good = { token: tokens.ada ?? "", method: getUser };
    const batch = await failure(keys.batchVerifyApiKeys({ requests: [good, good, request] }));
    assert.equal(batch.code, Code.InvalidArgument);
    assert.equal(batch.rawMessage, `requests[2].${alone.rawMessage}`);
  });
}

/** The log rows of one request id, the verifications among them. */
async function rowsOf(requestId: string, count: number) {
  const rows = await until(
    async () =>
      await latchkey.sql`
      SELECT service, method, protocol, code, denial_reason, user_id, api_key_id, credential_kind, peer_address,
        user_agent, error_message, request_bytes, response_bytes, duration_us
      FROM request_logs WHERE request_id = ${requestId} ORDER BY time, id`,
    (found) => found.length >= count,
  );
  assert.equal(rows.length, count);
  return rows.map((row) => ({ ...row }));
}

let settlings = 0;

/** What is counted for a key, all calls that have ended included: they are committed in their order. */
async function countOf(name: string): Promise<number> {
  const requestId = `settle-${settlings++}`;
  await latchkey.asStaff.users.getUser({ userId: 1n }, { headers: { "x-request-id": requestId } });
  await rowsOf(requestId, 1);
  const [row] = await latchkey.sql`
    SELECT request_count::int AS n FROM api_key_usage WHERE api_key_id = ${keys[name]?.apiKeyId ?? ""}`;
  return row?.n;
}

test("a verification is one call of the verified key: counted, and logged with what was asked", async () => {
  const [before, verifierBefore] = [await countOf("here"), await countOf("gate")];
  const headers = { "x-request-id": "verify-1" };
  const mine = latchkey.as(tokens.gate ?? "").keys;
  const token = tokens.here ?? "";
  await mine.verifyApiKey({ token, method: "other.Service/Any", address: "::ffff:192.0.2.1" }, { headers });
  await mine.verifyApiKey({ token, method: createUser, address: "2001:DB8::1" }, { headers });
  await mine.verifyApiKey({ token: tokens.gone ?? "", method: getUser }, { headers });
  await mine.verifyApiKey({ token: tokens.unknown ?? "" }, { headers });
  const rows = (await rowsOf("verify-1", 8)).filter(({ protocol }) => protocol === "verify");
  for (const row of rows) assert.ok(Number(row.duration_us) >= 0 && Number(row.duration_us) < 60_000_000);
  const common = { protocol: "verify", user_agent: "", request_bytes: null, response_bytes: null };
  const of = (name: string) => ({
    user_id: String(keys[name]?.userId),
    api_key_id: keys[name]?.apiKeyId,
    credential_kind: "api_key",
  });
  assert.deepEqual(
    rows.map(({ duration_us: _, ...row }) => row),
    [
      {
        ...{ ...common, ...of("here") },
        ...{ service: "other.Service", method: "Any", peer_address: "192.0.2.1" },
        ...{ code: 0, denial_reason: null, error_message: null },
      },
      {
        ...{ ...common, ...of("here") },
        ...{ service: "api.users.UserService", method: "CreateUser", peer_address: "2001:db8::1" },
        ...{ code: 7, denial_reason: "METHOD_NOT_ALLOWED" },
        error_message: "this API key may not call this method",
      },
      {
        ...{ ...common, ...of("gone") },
        ...{ service: "api.users.UserService", method: "GetUser", peer_address: null },
        ...{ code: 16, denial_reason: "REVOKED" },
        error_message: "this API key was revoked at 2021-02-03T04:05:06.789Z",
      },
      {
        ...{ ...common, user_id: null, api_key_id: null, credential_kind: "api_key" },
        ...{ service: "", method: "", peer_address: null },
        ...{ code: 16, denial_reason: "UNKNOWN", error_message: "invalid API key" },
      },
    ],
  );
  // The refused one of a principal counts, as it does at the server itself.
  assert.equal(await countOf("here"), before + 2);
  assert.equal(await countOf("gate"), verifierBefore + 4);
});

test("skip_usage neither counts nor logs the verification, only the call that asked", async () => {
  const before = await countOf("ada");
  const headers = { "x-request-id": "skipped-1" };
  const request = { token: tokens.ada ?? "", method: getUser };
  const { keys } = latchkey.asStaff;
  await keys.verifyApiKey({ ...request, skipUsage: true }, { headers });
  await keys.batchVerifyApiKeys({ requests: [{ ...request, skipUsage: true }, request] }, { headers });
  const rows = await rowsOf("skipped-1", 3);
  assert.deepEqual(rows.map(({ protocol, method }) => `${protocol} ${method}`).sort(), [
    "connect BatchVerifyApiKeys",
    "connect VerifyApiKey",
    "verify GetUser",
  ]);
  assert.equal(await countOf("ada"), before + 1);
});

test("a batch of 100 is answered in order and each is counted; 101 are refused", async () => {
  const before = await countOf("ada");
  const names = Array.from({ length: 100 }, (_, i) => ["ada", "unknown", "gone", "old", "here"][i % 5] ?? "");
  const requests = names.map((name) => ({ token: tokens[name] ?? "", method: updateProfile }));
  const { keys } = latchkey.asStaff;
  const headers = { "x-request-id": "batch-1" };
  const { verdicts } = await keys.batchVerifyApiKeys({ requests }, { headers });
  const expected = { ada: 0, unknown: 3, gone: 4, old: 5, here: 8 } as Record<string, number>;
  assert.deepEqual(
    verdicts.map(({ denialReason }) => denialReason),
    names.map((name) => expected[name]),
  );
  await rowsOf("batch-1", 101);
  assert.equal(await countOf("ada"), before + 20);

  const more = await failure(keys.batchVerifyApiKeys({ requests: [...requests, { token: "" }] }));
  assert.equal(more.code, Code.InvalidArgument);
  assert.match(more.rawMessage, /^requests must have at most 100 items, not 101/);
  assert.deepEqual((await keys.batchVerifyApiKeys({})).verdicts, []);
});

test("a revoked key is refused in what other instances are asked too", async (t) => {
  const other = await startServer({ databaseUrl: latchkey.databaseUrl });
  t.after(() => other.close());
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "verified-elsewhere");
  const ask = async () => (await other.asStaff.keys.verifyApiKey({ token, method: getUser })).verdict;
  assert.equal((await ask())?.allowed, true);
  await latchkey.asStaff.keys.revokeApiKey({ id: apiKeyId });
  const refused = await until(ask, (found) => found?.allowed === false);
  assert.equal(refused?.denialReason, DenialReason.REVOKED);
  assert.ok(refused.deniedSince);
});

test("with authentication switched off nobody may ask", async (t) => {
  const open = await startServer({ authEnabled: false, databaseUrl: latchkey.databaseUrl });
  t.after(() => open.close());
  for (const call of [
    open.asStaff.keys.verifyApiKey({ token: tokens.ada ?? "" }),
    open.asStaff.keys.batchVerifyApiKeys({ requests: [{ token: tokens.ada ?? "" }] }),
  ]) {
    assert.equal((await failure(call)).code, Code.Unauthenticated);
  }
});

test("a token in a request that cannot be read reaches no log", async () => {
  const token = noteSecret("acme-5f0e9d3c7b1a");
  const bodies = [
    `{"token": ${token}}`,
    `{"skipUsage": "${token}"}`,
    `"${token}"`,
    token,
    `{"method": "${token}"}`,
    `{"address": "${token}"}`,
    `{"token": "${token}", "method": ["${token}"]}`,
  ];
  for (const [i, body] of bodies.entries()) {
    const response = await fetch(`${latchkey.url}/latchkey.v1.ApiKeyService/VerifyApiKey`, {
      method: "POST",
      headers: {
        "x-api-key": secretKey,
        "content-type": "application/json",
        "x-request-id": `unread-${i}`,
      },
      body,
    });
    assert.equal(response.status, 400, body);
    const [row] = await rowsOf(`unread-${i}`, 1);
    assert.equal(row?.code, Code.InvalidArgument);
    assert.ok(!String(row?.error_message).includes(token.slice(0, 8)), String(row?.error_message));
  }
});
