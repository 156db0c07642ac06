/** latchkey.v1.ApiKeyService over RPC: who may do what, what it answers and what it refuses. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { toJsonString } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type ApiKey,
  ApiKeyStatus,
  ApiKeyType,
  CreateApiKeyResponseSchema,
  GetApiKeyResponseSchema,
  ListApiKeysResponseSchema,
  RevocationReason,
  RevokeApiKeyResponseSchema,
  RotateApiKeyResponseSchema,
  UpdateApiKeyResponseSchema,
} from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

const adminId = 1n;
const anHourMs = 3_600_000;
const unknownId = "01890a5d-ac96-774b-bcce-b302099a8057";

let latchkey: TestServer;
let staff: Clients;
let anonymous: Clients;
let ada: { userId: bigint; apiKeyId: string; token: string };
let bob: typeof ada;
before(async () => {
  latchkey = await startServer();
  staff = latchkey.asStaff;
  anonymous = clientsOf(connectTransport(latchkey.url, undefined));
  ada = await createUserAndKey(staff, "ada");
  bob = await createUserAndKey(staff, "bob");
});
after(() => latchkey.close());

/** A key of a user of its own, so that listings of that user hold nothing else. */
async function newUser(name: string): Promise<bigint> {
  return (await staff.users.createUser({ username: name })).id;
}

async function newKey(
  userId: bigint,
  options: { name?: string; type?: ApiKeyType; expiresInMs?: number } = {},
): Promise<ApiKey & { token: string }> {
  const { expiresInMs, name = "a key", type = ApiKeyType.UNSPECIFIED } = options;
  const { apiKey, token } = await staff.keys.createApiKey({
    userId,
    name,
    type,
    ...(expiresInMs !== undefined && { expiresAt: timestampFromDate(new Date(Date.now() + expiresInMs)) }),
  });
  assert.ok(apiKey);
  return { ...apiKey, token: noteSecret(token) };
}

/** Waits until a credential is refused: the change takes a moment to come round. */
async function refused(call: () => Promise<unknown>): Promise<ConnectError> {
  const outcome = () => call().then(() => undefined, ConnectError.from);
  const error = await until(outcome, (found) => found?.code === Code.Unauthenticated);
  assert.ok(error);
  return error;
}

const _ids = (keys: readonly ApiKey[]) => keys.map(({ id }) => id);

test("the token is in CreateApiKey's answer and in no other; its hash is in none", async () => {
  const userId = await newUser("once");
  let cacheControl: string | null = null;
  const created = await staff.keys.createApiKey(
    { userId, name: "once" },
    { onHeader: (headers) => (cacheControl = headers.get("cache-control")) },
  );
  const { token } = created;
  noteSecret(token);
  assert.match(token, /^lk_[0-9A-Za-z]{38}$/);
  assert.equal(cacheControl, "no-store");
  const id = created.apiKey?.id ?? "";

  const digest = createHash("sha256").update(token).digest();
  const hashes = [digest.toString("hex"), digest.toString("base64"), digest.toString("base64url")];
  const mine = latchkey.as(token).keys;
  const rotated = await mine.rotateApiKey({ id });
  noteSecret(rotated.token);
  const answers = {
    created: toJsonString(CreateApiKeyResponseSchema, { ...created, token: "" }),
    got: toJsonString(GetApiKeyResponseSchema, await staff.keys.getApiKey({ id })),
    listed: toJsonString(ListApiKeysResponseSchema, await staff.keys.listApiKeys({ userId })),
    listedByItself: toJsonString(ListApiKeysResponseSchema, await mine.listApiKeys({})),
    updated: toJsonString(
      UpdateApiKeyResponseSchema,
      await mine.updateApiKey({ apiKey: { id, name: "twice" }, updateMask: { paths: ["name"] } }),
    ),
    rotated: toJsonString(RotateApiKeyResponseSchema, { ...rotated, token: "" }),
    revoked: toJsonString(RevokeApiKeyResponseSchema, await mine.revokeApiKey({ id })),
  };
  for (const [name, answer] of Object.entries(answers)) {
    assert.ok(answer.includes(id), `${name} is of another key`);
    for (const secret of [token, token.slice(3), ...hashes])
      assert.ok(!answer.includes(secret), `${name}: ${answer}`);
  }
});

test("a new key is what was asked for, of type SERVICE and without expiry where nothing was", async () => {
  const { apiKey, token } = await staff.keys.createApiKey({ userId: ada.userId, name: "plain" });
  noteSecret(token);
  assert.ok(apiKey?.createdAt);
  const { id, createdAt, updatedAt, $typeName: _, ...rest } = apiKey;
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.ok(Math.abs(timestampDate(createdAt).getTime() - Date.now()) < 60_000);
  assert.deepEqual(updatedAt, createdAt);
  assert.deepEqual(rest, {
    userId: ada.userId,
    name: "plain",
    description: "",
    type: ApiKeyType.SERVICE,
    start: token.slice(0, 9),
    status: ApiKeyStatus.ACTIVE,
    createdBy: adminId,
    requestCount: 0n,
    allowedMethods: [],
    allowedAddresses: [],
    revocationReason: RevocationReason.UNSPECIFIED,
    revocationNote: "",
    rotatedFrom: "",
    rotatedTo: "",
    imported: false,
    canVerify: false,
    username: "ada",
  });

  const expiresAt = timestampFromDate(new Date(Date.now() + anHourMs));
  const full = await staff.keys.createApiKey({
    userId: ada.userId,
    name: "🗝".repeat(100),
    description: "d".repeat(1000),
    type: ApiKeyType.WEBHOOK,
    expiresAt,
    allowedMethods: ["api.users.*", "api.users.*", "latchkey.v1.ApiKeyService/GetApiKey"],
    allowedAddresses: ["203.0.113.7/24", "2001:DB8::1"],
    canVerify: true,
  });
  noteSecret(full.token);
  assert.equal(full.apiKey?.name, "🗝".repeat(100));
  assert.equal(full.apiKey.description.length, 1000);
  assert.equal(full.apiKey.type, ApiKeyType.WEBHOOK);
  assert.deepEqual(full.apiKey.expiresAt, expiresAt);
  assert.deepEqual(full.apiKey.allowedMethods, ["api.users.*", "latchkey.v1.ApiKeyService/GetApiKey"]);
  assert.deepEqual(full.apiKey.allowedAddresses, ["203.0.113.0/24", "2001:db8::1/128"]);
  assert.equal(full.apiKey.canVerify, true);
  assert.deepEqual((await staff.keys.getApiKey({ id: full.apiKey.id })).apiKey, full.apiKey);
});

for (const [what, fields, message] of [
  ["no name", { name: "" }, /name must have 1 to 100/],
  ["a name of 101 characters", { name: "n".repeat(101) }, /name must have 1 to 100/],
  ["a name with NUL", { name: "a\0b" }, /name must not contain/],
  [
    "a description of 1001 characters",
    { description: "d".repeat(1001) },
    /description must have at most 1000/,
  ],
  ["a description with NUL", { description: "\0" }, /description must not contain/],
  ["user 0", { userId: 0n }, /user_id/],
  ["a negative user", { userId: -1n }, /user_id/],
  ["an unknown type", { type: 99 as ApiKeyType }, /type 99/],
  ["an expiry in the past", { expiresAt: timestampFromDate(new Date(Date.now() - 1000)) }, /future/],
  ["an expiry at 0", { expiresAt: { seconds: 0n, nanos: 0 } }, /future/],
  ["an expiry past the year 9999", { expiresAt: { seconds: 253_402_300_800n, nanos: 0 } }, /expires_at/],
  ["an expiry of 2^62 seconds", { expiresAt: { seconds: 2n ** 62n, nanos: 0 } }, /expires_at/],
  ["an expiry of negative nanos", { expiresAt: { seconds: 4_000_000_000n, nanos: -1 } }, /expires_at/],
  ["an expiry of too many nanos", { expiresAt: { seconds: 4_000_000_000n, nanos: 1e9 } }, /expires_at/],
] as const) {
  test(`CreateApiKey refuses ${what} and makes no key`, async () => {
    const userId = await newUser(`refused-${what.replaceAll(/\W/g, "-")}`);
    await assert.rejects(staff.keys.createApiKey({ userId, name: "a key", ...fields }), {
      code: Code.InvalidArgument,
      rawMessage: message,
    });
    assert.deepEqual((await staff.keys.listApiKeys({ userId })).apiKeys, []);
  });
}

test("a key may expire in the last millisecond of the year 9999 that protobuf knows", async () => {
  const expiresAt = { seconds: 253_402_300_799n, nanos: 999_999_999 };
  const { apiKey, token } = await staff.keys.createApiKey({ userId: ada.userId, name: "long", expiresAt });
  noteSecret(token);
  assert.equal(apiKey?.expiresAt?.seconds, expiresAt.seconds);
  assert.equal((await staff.keys.getApiKey({ id: apiKey.id })).apiKey?.status, ApiKeyStatus.ACTIVE);
});

test("a key is made for a user that is there and active alone", async () => {
  await assert.rejects(staff.keys.createApiKey({ userId: 2n ** 63n - 1n, name: "a key" }), {
    code: Code.NotFound,
    rawMessage: "user 9223372036854775807 not found",
  });
  const userId = await newUser("disabled");
  await latchkey.sql`UPDATE users SET is_active = false WHERE id = ${String(userId)}`;
  await assert.rejects(staff.keys.createApiKey({ userId, name: "a key" }), {
    code: Code.FailedPrecondition,
    rawMessage: `user ${userId} is disabled`,
  });
});

test("nobody calls any method without a key, a user all of them for its own keys, and staff for anyone's", async () => {
  const calls = (clients: Clients, userId: bigint, id: string) => ({
    create: () => clients.keys.createApiKey({ userId, name: "a key" }),
    get: () => clients.keys.getApiKey({ id }),
    list: () => clients.keys.listApiKeys({}),
    update: () => clients.keys.updateApiKey({ apiKey: { id, name: "b" }, updateMask: { paths: ["name"] } }),
    rotate: () => clients.keys.rotateApiKey({ id }),
    revoke: () => clients.keys.revokeApiKey({ id }),
    revokeAll: () => clients.keys.revokeAllApiKeys({ userId, keepOwn: true }),
  });
  for (const call of Object.values(calls(anonymous, ada.userId, ada.apiKeyId))) {
    await assert.rejects(call(), { code: Code.Unauthenticated });
  }
  const userId = await newUser("called-for");
  const staffId = await newUser("another-staff");
  await latchkey.sql`UPDATE users SET is_staff = true WHERE id = ${String(staffId)}`;
  for (const caller of [await newKey(userId), await newKey(staffId)]) {
    const key = await newKey(userId);
    for (const call of Object.values(calls(latchkey.as(caller.token), userId, key.id))) {
      const answer = await call();
      if ("token" in answer) noteSecret(answer.token);
    }
  }
});

test("with authentication off, no key can be made, seen or revoked", async () => {
  const open = await startServer({ databaseUrl: latchkey.databaseUrl, authEnabled: false });
  try {
    const { keys } = clientsOf(connectTransport(open.url, ada.token));
    const expected = { code: Code.Unauthenticated };
    await assert.rejects(keys.createApiKey({ userId: ada.userId, name: "a key" }), expected);
    await assert.rejects(keys.getApiKey({ id: ada.apiKeyId }), expected);
    await assert.rejects(keys.listApiKeys({}), expected);
    await assert.rejects(keys.revokeApiKey({ id: ada.apiKeyId }), expected);
    await assert.rejects(keys.rotateApiKey({ id: ada.apiKeyId }), expected);
    await assert.rejects(keys.revokeAllApiKeys({ userId: ada.userId }), expected);
    const update = { apiKey: { id: ada.apiKeyId, name: "b" }, updateMask: { paths: ["name"] } };
    await assert.rejects(keys.updateApiKey(update), expected);
  } finally {
    await open.close();
  }
});

test("another user's key is not found, in the words of one that never was, and stays as it is", async () => {
  const { keys } = latchkey.as(ada.token);
  for (const id of [bob.apiKeyId, unknownId]) {
    const expected = { code: Code.NotFound, rawMessage: `API key ${id} not found` };
    await assert.rejects(keys.getApiKey({ id }), expected);
    await assert.rejects(keys.revokeApiKey({ id }), expected);
    await assert.rejects(keys.rotateApiKey({ id }), expected);
    const update = { apiKey: { id, name: "mine" }, updateMask: { paths: ["name"] } };
    await assert.rejects(keys.updateApiKey(update), expected);
  }
  assert.equal((await staff.keys.getApiKey({ id: bob.apiKeyId })).apiKey?.status, ApiKeyStatus.ACTIVE);
  await assert.rejects(staff.keys.getApiKey({ id: unknownId }), { code: Code.NotFound });
  await assert.rejects(staff.keys.revokeApiKey({ id: unknownId }), { code: Code.NotFound });
});

for (const id of [
  "",
  "1",
  unknownId.slice(1),
  `${unknownId}0`,
  unknownId.replaceAll("-", ""),
  `${unknownId}\n`,
  "\0",
]) {
  test(`an id that is no UUID is refused: ${JSON.stringify(id)}`, async () => {
    const expected = { code: Code.InvalidArgument, rawMessage: /^id must be a UUID/ };
    await assert.rejects(staff.keys.getApiKey({ id }), expected);
    await assert.rejects(staff.keys.revokeApiKey({ id }), expected);
    await assert.rejects(staff.keys.rotateApiKey({ id }), expected);
    await assert.rejects(staff.keys.updateApiKey({ apiKey: { id }, updateMask: { paths: ["name"] } }), {
      code: Code.InvalidArgument,
      rawMessage: /^api_key\.id must be a UUID/,
    });
  });
}

test("an id is found in capitals too", async () => {
  const { apiKey } = await staff.keys.getApiKey({ id: ada.apiKeyId.toUpperCase() });
  assert.equal(apiKey?.id, ada.apiKeyId);
});

test("revoking ends a key for good; revoking again changes nothing and keeps the first time", async () => {
  const key = await newKey(ada.userId);
  const { keys } = latchkey.as(ada.token);
  const { apiKey: first } = await keys.revokeApiKey({ id: key.id });
  assert.equal(first?.status, ApiKeyStatus.REVOKED);
  assert.ok(first.revokedAt);
  const refusal = await refused(() => latchkey.as(key.token).keys.listApiKeys({}));
  assert.equal(
    refusal.rawMessage,
    `this API key was revoked at ${timestampDate(first.revokedAt).toISOString()}`,
  );
  const again = await Promise.all([
    staff.keys.revokeApiKey({ id: key.id }),
    keys.revokeApiKey({ id: key.id }),
  ]);
  for (const { apiKey } of again) assert.deepEqual(apiKey?.revokedAt, first.revokedAt);
  const events = await latchkey.sql`
    SELECT count(*)::int AS n FROM audit_events WHERE target_api_key_id = ${key.id} AND action = 'api_key.revoke'`;
  assert.equal(events[0]?.n, 1);
});

test("a key may revoke itself", async () => {
  const key = await newKey(ada.userId);
  const { keys } = latchkey.as(key.token);
  assert.equal((await keys.revokeApiKey({ id: key.id })).apiKey?.status, ApiKeyStatus.REVOKED);
  await refused(() => keys.getApiKey({ id: key.id }));
});

test("creating and revoking are audited: who, which key, from where, and no secret", async () => {
  const requestId = "audited-0001";
  const { apiKey, token } = await staff.keys.createApiKey(
    { userId: bob.userId, name: "audited", description: "for the books", type: ApiKeyType.CLI },
    { headers: { "x-request-id": requestId } },
  );
  noteSecret(token);
  const id = apiKey?.id ?? "";
  await latchkey.as(bob.token).keys.revokeApiKey({ id }, { headers: { "x-request-id": requestId } });

  const events = await latchkey.sql`
    SELECT actor_user_id::int, actor_api_key_id, action, target_user_id::int, before, after,
      host(peer_address) AS peer, request_id
    FROM audit_events WHERE target_api_key_id = ${id} ORDER BY id`;
  const [created, revoked] = events;
  assert.equal(events.length, 2);
  const common = { target_user_id: Number(bob.userId), peer: "127.0.0.1", request_id: requestId };
  assert.deepEqual(
    { ...created },
    {
      ...common,
      actor_user_id: 1,
      actor_api_key_id: null,
      action: "api_key.create",
      before: null,
      after: {
        name: "audited",
        description: "for the books",
        type: "cli",
        start: token.slice(0, 9),
        expires_at: null,
        allowed_methods: [],
        allowed_addresses: [],
        can_verify: false,
      },
    },
  );
  const { revokedAt } = (await staff.keys.getApiKey({ id })).apiKey ?? {};
  assert.ok(revokedAt);
  const after = { revoked_at: revoked?.after.revoked_at, revocation_reason: "unspecified" };
  assert.deepEqual(
    { ...revoked },
    {
      ...common,
      actor_user_id: Number(bob.userId),
      actor_api_key_id: bob.apiKeyId,
      action: "api_key.revoke",
      before: { revoked_at: null },
      after,
    },
  );
  assert.equal(new Date(String(after.revoked_at)).getTime(), timestampDate(revokedAt).getTime());
});

test("what cannot be audited does not happen", async () => {
  const { sql } = latchkey;
  const userId = await newUser("unaudited");
  const key = await newKey(userId);
  await sql.unsafe(`
    CREATE FUNCTION refuse_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more ink'; END $$;
    CREATE TRIGGER refuse_audit BEFORE INSERT ON audit_events
      FOR EACH ROW WHEN (NEW.target_user_id = ${userId}) EXECUTE FUNCTION refuse_audit()`);
  try {
    const expected = { code: Code.Internal, rawMessage: "internal error" };
    await assert.rejects(staff.keys.createApiKey({ userId, name: "unaudited" }), expected);
    await assert.rejects(staff.keys.revokeApiKey({ id: key.id }), expected);
  } finally {
    await sql`DROP FUNCTION refuse_audit CASCADE`;
  }
  const { apiKeys } = await staff.keys.listApiKeys({ userId });
  assert.deepEqual(
    apiKeys.map(({ id, status }) => [id, status]),
    [[key.id, ApiKeyStatus.ACTIVE]],
  );
});

test("a key whose creator was deleted lives on, and says who that was", async () => {
  const creator = await createUserAndKey(staff, "creator");
  await latchkey.sql`UPDATE users SET is_staff = true WHERE id = ${String(creator.userId)}`;
  const { apiKey, token } = await latchkey
    .as(creator.token)
    .keys.createApiKey({ userId: ada.userId, name: "orphan" });
  noteSecret(token);
  assert.equal(apiKey?.createdBy, creator.userId);
  await staff.users.deleteUser({ userId: creator.userId });
  const found = await staff.keys.getApiKey({ id: apiKey.id });
  assert.equal(found.apiKey?.createdBy, creator.userId);
  assert.equal(found.apiKey.status, ApiKeyStatus.ACTIVE);
  await latchkey.as(token).keys.listApiKeys({});
});
