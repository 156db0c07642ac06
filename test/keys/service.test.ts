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
  RevokeApiKeyResponseSchema,
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

async function expire(id: string): Promise<void> {
  await latchkey.sql`UPDATE api_keys SET expires_at = now() - interval '1 minute' WHERE id = ${id}`;
}

/** Waits until a credential is refused: the change takes a moment to come round. */
async function refused(call: () => Promise<unknown>): Promise<ConnectError> {
  const outcome = () => call().then(() => undefined, ConnectError.from);
  const error = await until(outcome, (found) => found?.code === Code.Unauthenticated);
  assert.ok(error);
  return error;
}

const ids = (keys: readonly ApiKey[]) => keys.map(({ id }) => id);

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
  const answers = {
    created: toJsonString(CreateApiKeyResponseSchema, { ...created, token: "" }),
    got: toJsonString(GetApiKeyResponseSchema, await staff.keys.getApiKey({ id })),
    listed: toJsonString(ListApiKeysResponseSchema, await staff.keys.listApiKeys({ userId })),
    listedByItself: toJsonString(ListApiKeysResponseSchema, await mine.listApiKeys({})),
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
  const { id, createdAt, $typeName: _, ...rest } = apiKey;
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.ok(Math.abs(timestampDate(createdAt).getTime() - Date.now()) < 60_000);
  assert.deepEqual(rest, {
    userId: ada.userId,
    name: "plain",
    description: "",
    type: ApiKeyType.SERVICE,
    start: token.slice(0, 9),
    status: ApiKeyStatus.ACTIVE,
    createdBy: adminId,
    requestCount: 0n,
  });

  const expiresAt = timestampFromDate(new Date(Date.now() + anHourMs));
  const full = await staff.keys.createApiKey({
    userId: ada.userId,
    name: "🗝".repeat(100),
    description: "d".repeat(1000),
    type: ApiKeyType.WEBHOOK,
    expiresAt,
  });
  noteSecret(full.token);
  assert.equal(full.apiKey?.name, "🗝".repeat(100));
  assert.equal(full.apiKey.description.length, 1000);
  assert.equal(full.apiKey.type, ApiKeyType.WEBHOOK);
  assert.deepEqual(full.apiKey.expiresAt, expiresAt);
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

test("staff may call every method, a user may not create, and nobody calls any without a key", async () => {
  const calls = (clients: Clients, id: string) => ({
    create: () => clients.keys.createApiKey({ userId: ada.userId, name: "a key" }),
    get: () => clients.keys.getApiKey({ id }),
    list: () => clients.keys.listApiKeys({}),
    revoke: () => clients.keys.revokeApiKey({ id }),
  });
  for (const call of Object.values(calls(anonymous, ada.apiKeyId))) {
    await assert.rejects(call(), { code: Code.Unauthenticated });
  }
  const own = await newKey(ada.userId);
  const { create, ...others } = calls(latchkey.as(ada.token), own.id);
  await assert.rejects(create(), { code: Code.PermissionDenied });
  for (const call of Object.values(others)) await call();
  for (const call of Object.values(calls(staff, own.id))) {
    const answer = await call();
    if ("token" in answer) noteSecret(answer.token);
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
  });
}

test("an id is found in capitals too", async () => {
  const { apiKey } = await staff.keys.getApiKey({ id: ada.apiKeyId.toUpperCase() });
  assert.equal(apiKey?.id, ada.apiKeyId);
});

test("a user lists its own keys, staff everyone's, and another's are denied by name", async () => {
  const userId = await newUser("lister");
  const [first, second] = [await newKey(userId), await newKey(userId)];
  const { keys } = latchkey.as(first.token);
  assert.deepEqual(ids((await keys.listApiKeys({})).apiKeys), [second.id, first.id]);
  assert.deepEqual(ids((await keys.listApiKeys({ userId })).apiKeys), [second.id, first.id]);
  assert.deepEqual(ids((await staff.keys.listApiKeys({ userId })).apiKeys), [second.id, first.id]);
  await assert.rejects(keys.listApiKeys({ userId: ada.userId }), { code: Code.PermissionDenied });
  // Whether there is such a user is told to staff alone.
  await assert.rejects(keys.listApiKeys({ userId: 999_999n }), { code: Code.PermissionDenied });
  assert.deepEqual((await staff.keys.listApiKeys({ userId: 999_999n })).apiKeys, []);
  for (const clients of [keys, staff.keys]) {
    await assert.rejects(clients.listApiKeys({ userId: -1n }), { code: Code.InvalidArgument });
  }
  const { apiKeys } = await staff.keys.listApiKeys({ pageSize: 500 });
  assert.ok(ids(apiKeys).includes(second.id) && ids(apiKeys).includes(bob.apiKeyId));
});

test("keys are listed by status, by type, and by both; a revoked key stays REVOKED past its expiry", async () => {
  const userId = await newUser("filters");
  const active = await newKey(userId, { type: ApiKeyType.CLI });
  const later = await newKey(userId, { type: ApiKeyType.WEBHOOK, expiresInMs: anHourMs });
  const expired = await newKey(userId, { type: ApiKeyType.CLI, expiresInMs: anHourMs });
  const revoked = await newKey(userId, { type: ApiKeyType.DEVELOPMENT });
  const both = await newKey(userId, { type: ApiKeyType.INTERNAL, expiresInMs: anHourMs });
  for (const { id } of [revoked, both]) await staff.keys.revokeApiKey({ id });
  for (const { id } of [expired, both]) await expire(id);

  for (const [filter, expected] of [
    [{}, [both, revoked, expired, later, active]],
    [{ status: ApiKeyStatus.ACTIVE }, [later, active]],
    [{ status: ApiKeyStatus.EXPIRED }, [expired]],
    [{ status: ApiKeyStatus.REVOKED }, [both, revoked]],
    [{ type: ApiKeyType.CLI }, [expired, active]],
    [{ type: ApiKeyType.WEBHOOK }, [later]],
    [{ type: ApiKeyType.SERVICE }, []],
    [{ type: ApiKeyType.CLI, status: ApiKeyStatus.ACTIVE }, [active]],
    [{ type: ApiKeyType.CLI, status: ApiKeyStatus.REVOKED }, []],
  ] as const) {
    const { apiKeys } = await staff.keys.listApiKeys({ userId, ...filter });
    assert.deepEqual(ids(apiKeys), ids(expected), JSON.stringify(filter));
    if ("status" in filter) assert.ok(apiKeys.every(({ status }) => status === filter.status));
  }
  await assert.rejects(staff.keys.listApiKeys({ status: 9 as ApiKeyStatus }), { code: Code.InvalidArgument });
  await assert.rejects(staff.keys.listApiKeys({ type: -1 as ApiKeyType }), { code: Code.InvalidArgument });
});

test("pages of every size hold each key once, newest first, though keys come and go meanwhile", async () => {
  const userId = await newUser("pages");
  const made: ApiKey[] = [];
  for (let n = 0; n < 7; n++) made.unshift(await newKey(userId, { name: `key ${n}` }));
  for (const pageSize of [1, 2, 3, 6, 7, 8]) {
    const walked: string[] = [];
    let pageToken = "";
    let pages = 0;
    do {
      const page = await staff.keys.listApiKeys({ userId, pageSize, pageToken });
      assert.ok(page.apiKeys.length > 0 && page.apiKeys.length <= pageSize);
      walked.push(...ids(page.apiKeys));
      pageToken = page.nextPageToken;
      // Newer than where the walk stands: it must move nothing.
      if (pages++ === 0) made.unshift(await newKey(userId));
    } while (pageToken !== "");
    assert.deepEqual(walked, ids(made).slice(1), `pages of ${pageSize}`);
    assert.equal(pages, Math.ceil(walked.length / pageSize));
  }
});

test("a page holds 50 keys unless asked, and never more than 500", async () => {
  const userId = await newUser("many");
  await latchkey.sql`
    WITH made AS (
      INSERT INTO api_keys (id, user_id, name, type, hash, start)
      SELECT gen_random_uuid(), ${String(userId)}, 'key', 'service', sha256(n::text::bytea), 'lk_000000'
      FROM generate_series(1, 501) n RETURNING id)
    INSERT INTO api_key_usage (api_key_id) SELECT id FROM made`;
  const sizes = await Promise.all(
    [0, 500, 501, 2 ** 31 - 1].map(async (pageSize) => {
      const { apiKeys, nextPageToken } = await staff.keys.listApiKeys({ userId, pageSize });
      assert.notEqual(nextPageToken, "");
      return apiKeys.length;
    }),
  );
  assert.deepEqual(sizes, [50, 500, 500, 500]);
  await assert.rejects(staff.keys.listApiKeys({ pageSize: -1 }), {
    code: Code.InvalidArgument,
    rawMessage: /page_size must not be negative/,
  });
});

test("a page token of other filters, of another listing or of nobody is refused", async () => {
  const userId = await newUser("tokens");
  for (let n = 0; n < 2; n++) await newKey(userId);
  const { nextPageToken } = await staff.keys.listApiKeys({ userId, pageSize: 1 });
  const ofLogs = await staff.logs.listRequestLogs({ filter: { userId: adminId }, pageSize: 1 });
  assert.notEqual(ofLogs.nextPageToken, "");
  // The page size is no filter.
  await staff.keys.listApiKeys({ userId, pageSize: 2, pageToken: nextPageToken });
  const crafted = (change: (parts: string[]) => unknown) =>
    Buffer.from(
      JSON.stringify(change(JSON.parse(Buffer.from(nextPageToken, "base64url").toString()))),
    ).toString("base64url");
  for (const [what, request] of [
    ["another user's", { userId: ada.userId, pageToken: nextPageToken }],
    ["everyone's", { pageToken: nextPageToken }],
    ["another type's", { userId, type: ApiKeyType.CLI, pageToken: nextPageToken }],
    ["another status'", { userId, status: ApiKeyStatus.ACTIVE, pageToken: nextPageToken }],
    ["the request log's", { userId: adminId, pageToken: ofLogs.nextPageToken }],
    ["garbage", { userId, pageToken: "garbage" }],
    ["not base64url", { userId, pageToken: "ä\0~" }],
    ["an id alone", { userId, pageToken: ada.apiKeyId }],
    ["cut", { userId, pageToken: nextPageToken.slice(0, -4) }],
    ["no JSON array", { userId, pageToken: crafted(() => ({})) }],
    ["null", { userId, pageToken: crafted(() => null) }],
    ["without a cursor", { userId, pageToken: crafted(([filters]) => [filters]) }],
    ["with a cursor that is no UUID", { userId, pageToken: crafted(([filters]) => [filters, "' OR 1=1"]) }],
    ["with a cursor of numbers", { userId, pageToken: crafted(([filters]) => [filters, 1]) }],
  ] as const) {
    await assert.rejects(
      staff.keys.listApiKeys(request),
      { code: Code.InvalidArgument, rawMessage: /page_token/ },
      what,
    );
  }
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
      },
    },
  );
  const { revokedAt } = (await staff.keys.getApiKey({ id })).apiKey ?? {};
  assert.ok(revokedAt);
  const after = { revoked_at: revoked?.after.revoked_at };
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
