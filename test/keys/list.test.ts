/** ListApiKeys: whose keys, which of them, in what order, page by page. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import {
  ApiKeyStatus,
  ApiKeyType,
  type ListApiKeysRequestSchema,
} from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { aDayMs, anHourMs, createKeyWorld, inMs, type KeyWorld, type MadeKey } from "./world.ts";

const adminId = 1n;

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

const ids = (keys: readonly { id: string }[]) => keys.map(({ id }) => id);

async function expire(id: string): Promise<void> {
  await world.sql`UPDATE api_keys SET expires_at = now() - interval '1 minute' WHERE id = ${id}`;
}

/** Makes a key one that was made, and if so last used, so many days ago. */
async function age(id: string, createdDays: number, usedDays?: number): Promise<void> {
  await world.sql`UPDATE api_keys SET created_at = now() - make_interval(hours => ${24 * createdDays}) WHERE id = ${id}`;
  await world.sql`
    UPDATE api_key_usage u SET
      last_used_at = now() - make_interval(hours => ${usedDays === undefined ? null : 24 * usedDays}::int),
      idle_since = ((now() - make_interval(hours => ${24 * (usedDays ?? createdDays)})) AT TIME ZONE 'UTC')::date
    WHERE api_key_id = ${id}`;
}

/** All pages of a listing by staff, in pages of so many keys. */
async function walk(
  request: MessageInitShape<typeof ListApiKeysRequestSchema>,
  pageSize: number,
): Promise<string[]> {
  const walked: string[] = [];
  let pageToken = "";
  do {
    const page = await world.staff.keys.listApiKeys({ ...request, pageSize, pageToken });
    assert.ok(page.apiKeys.length > 0 && page.apiKeys.length <= pageSize);
    walked.push(...ids(page.apiKeys));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return walked;
}

async function makeKeys(userId: bigint, n: number): Promise<MadeKey[]> {
  const keys: MadeKey[] = [];
  for (let i = 0; i < n; i++) keys.push(await world.newKey({ userId, name: `key ${i}` }));
  return keys;
}

test("a user lists its own keys, staff everyone's, and another's are denied by name", async () => {
  const userId = await world.newUser();
  const [first, second] = [await world.newKey({ userId }), await world.newKey({ userId })];
  const others = await world.newKey();
  const { keys } = first.client;
  assert.deepEqual(ids((await keys.listApiKeys({})).apiKeys), [second.id, first.id]);
  assert.deepEqual(ids((await keys.listApiKeys({ userId })).apiKeys), [second.id, first.id]);
  assert.deepEqual(ids((await world.staff.keys.listApiKeys({ userId })).apiKeys), [second.id, first.id]);
  await assert.rejects(keys.listApiKeys({ userId: adminId }), { code: Code.PermissionDenied });
  // Whether there is such a user is told to staff alone.
  await assert.rejects(keys.listApiKeys({ userId: 999_999n }), { code: Code.PermissionDenied });
  assert.deepEqual((await world.staff.keys.listApiKeys({ userId: 999_999n })).apiKeys, []);
  for (const clients of [keys, world.staff.keys]) {
    await assert.rejects(clients.listApiKeys({ userId: -1n }), { code: Code.InvalidArgument });
  }
  const { apiKeys } = await world.staff.keys.listApiKeys({ pageSize: 500 });
  assert.ok(ids(apiKeys).includes(second.id) && ids(apiKeys).includes(others.id));
});

test("keys are listed by status, by type, and by both; a revoked key stays REVOKED past its expiry", async () => {
  const userId = await world.newUser();
  const active = await world.newKey({ userId, type: ApiKeyType.CLI });
  const later = await world.newKey({ userId, type: ApiKeyType.WEBHOOK, expiresAt: inMs(anHourMs) });
  const expired = await world.newKey({ userId, type: ApiKeyType.CLI, expiresAt: inMs(anHourMs) });
  const revoked = await world.newKey({ userId, type: ApiKeyType.DEVELOPMENT });
  const both = await world.newKey({ userId, type: ApiKeyType.INTERNAL, expiresAt: inMs(anHourMs) });
  for (const { id } of [revoked, both]) await world.staff.keys.revokeApiKey({ id });
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
    const { apiKeys } = await world.staff.keys.listApiKeys({ userId, ...filter });
    assert.deepEqual(ids(apiKeys), ids(expected), JSON.stringify(filter));
    if ("status" in filter) assert.ok(apiKeys.every(({ status }) => status === filter.status));
  }
  await assert.rejects(world.staff.keys.listApiKeys({ status: 9 as ApiKeyStatus }), {
    code: Code.InvalidArgument,
  });
  await assert.rejects(world.staff.keys.listApiKeys({ type: -1 as ApiKeyType }), {
    code: Code.InvalidArgument,
  });
});

test("pages of every size hold each key once, newest first, though keys come and go meanwhile", async () => {
  const userId = await world.newUser();
  const made: MadeKey[] = [];
  for (let n = 0; n < 7; n++) made.unshift(await world.newKey({ userId, name: `key ${n}` }));
  for (const pageSize of [1, 2, 3, 6, 7, 8]) {
    const walked: string[] = [];
    let pageToken = "";
    let pages = 0;
    do {
      const page = await world.staff.keys.listApiKeys({ userId, pageSize, pageToken });
      assert.ok(page.apiKeys.length > 0 && page.apiKeys.length <= pageSize);
      walked.push(...ids(page.apiKeys));
      pageToken = page.nextPageToken;
      // Newer than where the walk stands: it must move nothing.
      if (pages++ === 0) made.unshift(await world.newKey({ userId }));
    } while (pageToken !== "");
    assert.deepEqual(walked, ids(made).slice(1), `pages of ${pageSize}`);
    assert.equal(pages, Math.ceil(walked.length / pageSize));
  }
});

test("a page holds 50 keys unless asked, and never more than 500", async () => {
  const userId = await world.newUser();
  await world.sql`
    WITH made AS (
      INSERT INTO api_keys (id, user_id, name, type, hash, start)
      SELECT gen_random_uuid(), ${String(userId)}, 'key', 'service', sha256(n::text::bytea), 'lk_000000'
      FROM generate_series(1, 501) n RETURNING id)
    INSERT INTO api_key_usage (api_key_id) SELECT id FROM made`;
  const sizes = await Promise.all(
    [0, 500, 501, 2 ** 31 - 1].map(async (pageSize) => {
      const { apiKeys, nextPageToken } = await world.staff.keys.listApiKeys({ userId, pageSize });
      assert.notEqual(nextPageToken, "");
      return apiKeys.length;
    }),
  );
  assert.deepEqual(sizes, [50, 500, 500, 500]);
  await assert.rejects(world.staff.keys.listApiKeys({ pageSize: -1 }), {
    code: Code.InvalidArgument,
    rawMessage: /page_size must not be negative/,
  });
});

test("a page token of other filters, of another listing or of nobody is refused", async () => {
  const userId = await world.newUser();
  for (let n = 0; n < 2; n++) await world.newKey({ userId });
  const { nextPageToken } = await world.staff.keys.listApiKeys({ userId, pageSize: 1 });
  const ofLogs = await world.staff.logs.listRequestLogs({ filter: { userId: adminId }, pageSize: 1 });
  assert.notEqual(ofLogs.nextPageToken, "");
  // The page size is no filter.
  await world.staff.keys.listApiKeys({ userId, pageSize: 2, pageToken: nextPageToken });
  const crafted = (change: (parts: string[]) => unknown) =>
    Buffer.from(
      JSON.stringify(change(JSON.parse(Buffer.from(nextPageToken, "base64url").toString()))),
    ).toString("base64url");
  for (const [what, request] of [
    ["another user's", { userId: adminId, pageToken: nextPageToken }],
    ["everyone's", { pageToken: nextPageToken }],
    ["another type's", { userId, type: ApiKeyType.CLI, pageToken: nextPageToken }],
    ["another status'", { userId, status: ApiKeyStatus.ACTIVE, pageToken: nextPageToken }],
    ["the request log's", { userId: adminId, pageToken: ofLogs.nextPageToken }],
    ["garbage", { userId, pageToken: "garbage" }],
    ["not base64url", { userId, pageToken: "ä\0~" }],
    ["an id alone", { userId, pageToken: (await world.newKey()).id }],
    ["cut", { userId, pageToken: nextPageToken.slice(0, -4) }],
    ["no JSON array", { userId, pageToken: crafted(() => ({})) }],
    ["null", { userId, pageToken: crafted(() => null) }],
    ["without a cursor", { userId, pageToken: crafted(([filters]) => [filters]) }],
    ["with a cursor that is no UUID", { userId, pageToken: crafted(([filters]) => [filters, "' OR 1=1"]) }],
    ["with a cursor of numbers", { userId, pageToken: crafted(([filters]) => [filters, 1]) }],
  ] as const) {
    await assert.rejects(
      world.staff.keys.listApiKeys(request),
      { code: Code.InvalidArgument, rawMessage: /page_token/ },
      what,
    );
  }
});

test("keys unused for so many days are listed, the longest unused first, never used ones by their creation", async () => {
  const userId = await world.newUser();
  const [used9, never10, used8, oldUsedNow, never8, young] = await makeKeys(userId, 6);
  assert.ok(used9 && never10 && used8 && oldUsedNow && never8 && young);
  await age(used9.id, 50, 9);
  await age(never10.id, 10);
  await age(used8.id, 100, 8);
  await age(oldUsedNow.id, 100, 0);
  await age(never8.id, 8);
  const list = async (unusedForDays: number, more = {}) =>
    ids((await world.staff.keys.listApiKeys({ userId, unusedForDays, ...more })).apiKeys);
  assert.deepEqual(await list(7), ids([never10, used9, used8, never8]));
  assert.deepEqual(await list(8), ids([never10, used9, used8, never8]));
  assert.deepEqual(await list(9), ids([never10, used9]));
  assert.deepEqual(await list(10), ids([never10]));
  assert.deepEqual(await list(11), []);
  assert.deepEqual(await list(36_500), []);

  await world.staff.keys.revokeApiKey({ id: used9.id });
  assert.deepEqual(await list(7, { status: ApiKeyStatus.ACTIVE }), ids([never10, used8, never8]));
  assert.deepEqual(await list(7, { status: ApiKeyStatus.REVOKED }), ids([used9]));
  for (const size of [1, 2, 3, 4, 5]) {
    assert.deepEqual(await walk({ userId, unusedForDays: 7 }, size), ids([never10, used9, used8, never8]));
  }
});

test("being unused is counted to the second, not to the day", async () => {
  const userId = await world.newUser();
  const [just, almost] = await makeKeys(userId, 2);
  assert.ok(just && almost);
  for (const { id } of [just, almost]) await age(id, 20, 7);
  await world.sql`UPDATE api_key_usage SET last_used_at = last_used_at + interval '30 s' WHERE api_key_id = ${almost.id}`;
  const { apiKeys } = await world.staff.keys.listApiKeys({ userId, unusedForDays: 7 });
  assert.deepEqual(ids(apiKeys), ids([just]));
});

test("active keys that expire within so many days are listed, the soonest first", async () => {
  const userId = await world.newUser();
  const key = (ms?: number) => world.newKey({ userId, ...(ms !== undefined && { expiresAt: inMs(ms) }) });
  const [in3, in1, never, in5, past, gone] = [
    await key(3 * aDayMs - anHourMs),
    await key(aDayMs - anHourMs),
    await key(),
    await key(5 * aDayMs - anHourMs),
    await key(anHourMs),
    await key(anHourMs),
  ];
  await expire(past.id);
  await world.staff.keys.revokeApiKey({ id: gone.id });
  assert.equal((await world.stored(never.id)).status, ApiKeyStatus.ACTIVE);
  const list = async (expiresWithinDays: number, more = {}) =>
    ids((await world.staff.keys.listApiKeys({ userId, expiresWithinDays, ...more })).apiKeys);
  assert.deepEqual(await list(1), ids([in1]));
  assert.deepEqual(await list(4), ids([in1, in3]));
  assert.deepEqual(await list(36_500), ids([in1, in3, in5]));
  assert.deepEqual(await list(4, { status: ApiKeyStatus.ACTIVE }), ids([in1, in3]));
  assert.deepEqual(await list(4, { status: ApiKeyStatus.REVOKED }), []);
  assert.deepEqual(await list(4, { status: ApiKeyStatus.EXPIRED }), []);
  for (const size of [1, 2, 3, 4]) {
    assert.deepEqual(await walk({ userId, expiresWithinDays: 9 }, size), ids([in1, in3, in5]));
  }
});

test("pages miss none of the keys that share a day or a microsecond", async () => {
  const userId = await world.newUser();
  const keys = await makeKeys(userId, 5);
  for (const { id } of keys) await age(id, 30);
  await world.sql`
    UPDATE api_keys SET expires_at = '2100-01-01T00:00:00.123457Z' WHERE user_id = ${String(userId)}`;
  for (const size of [1, 2, 4]) {
    assert.deepEqual(await walk({ userId, unusedForDays: 7 }, size), ids(keys));
    assert.deepEqual(await walk({ userId, expiresWithinDays: 36_500 }, size), ids(keys));
  }
});

test("keys are found by a part of their name, description or start, without regard to case", async () => {
  const userId = await world.newUser();
  const named = await world.newKey({ userId, name: "Nightly Backup", description: "of the 100% \\ _vault" });
  const other = await world.newKey({ userId, name: "door", description: "the BACK door" });
  const find = async (search: string) =>
    ids((await world.staff.keys.listApiKeys({ userId, search })).apiKeys);
  for (const [search, found] of [
    ["back", [other, named]],
    ["NIGHTLY b", [named]],
    ["BACK DOOR", [other]],
    [named.key.start, [named]],
    [named.key.start.slice(3).toUpperCase(), [named]],
    ["100%", [named]],
    ["0% \\ _v", [named]],
    ["%", [named]],
    ["_vault", [named]],
    ["n_ghtly", []],
    ["\\", [named]],
    ["lk_", [other, named]],
    [named.key.id, []],
    ["x".repeat(200), []],
  ] as const) {
    assert.deepEqual(await find(search), ids(found), search);
  }
  // With the other filters, and in their order.
  await age(named.id, 20);
  await age(other.id, 30);
  assert.deepEqual(await walk({ userId, search: "back", unusedForDays: 7 }, 1), ids([other, named]));
  for (const search of ["x".repeat(201), "\0"]) {
    await assert.rejects(find(search), { code: Code.InvalidArgument, rawMessage: /^search must/ });
  }
});

test("a user finds none but its own keys", async () => {
  const mine = await world.newKey({ name: "zanzibar", expiresAt: inMs(anHourMs) });
  const others = await world.newKey({ name: "zanzibar", expiresAt: inMs(anHourMs) });
  // Another of the same user: the call would count as a use.
  const caller = await world.newKey({ userId: mine.key.userId });
  for (const { id } of [mine, others]) await age(id, 30);
  for (const filter of [{ search: "zanzibar" }, { unusedForDays: 7 }, { expiresWithinDays: 7 }]) {
    assert.deepEqual(ids((await caller.client.keys.listApiKeys(filter)).apiKeys), [mine.id]);
    const all = ids((await world.staff.keys.listApiKeys(filter)).apiKeys);
    assert.ok(all.includes(mine.id) && all.includes(others.id));
  }
});

for (const [what, request, message] of [
  ["negative days of no use", { unusedForDays: -1 }, /^unused_for_days must be/],
  ["too many days of no use", { unusedForDays: 36_501 }, /^unused_for_days must be/],
  ["negative days of expiry", { expiresWithinDays: -1 }, /^expires_within_days must be/],
  ["too many days of expiry", { expiresWithinDays: 2 ** 31 - 1 }, /^expires_within_days must be/],
  ["both kinds of days", { unusedForDays: 1, expiresWithinDays: 1 }, /one at a time$/],
] as const) {
  test(`ListApiKeys refuses ${what}`, async () => {
    await assert.rejects(world.staff.keys.listApiKeys(request), {
      code: Code.InvalidArgument,
      rawMessage: message,
    });
  });
}

test("a damaged or foreign page token of an ordered listing is refused", async () => {
  const userId = await world.newUser();
  const keys = await makeKeys(userId, 2);
  for (const { id } of keys) await age(id, 30);
  await world.sql`UPDATE api_keys SET expires_at = now() + interval '1 hour' WHERE user_id = ${String(userId)}`;
  const id = keys[0]?.id ?? "";
  for (const [filter, cursors] of [
    [
      { unusedForDays: 7 },
      [
        ["2026-02-30", id],
        ["2026-13-01", id],
        ["", id],
        ["2026-01-01T00:00:00.000000Z", id],
        ["2026-01-01", "x"],
      ],
    ],
    [
      { expiresWithinDays: 7 },
      [["2026-02-30T00:00:00.000000Z", id], ["2026-01-01T24:00:00.000000Z", id], ["2026-01-01", id], [id]],
    ],
  ] as const) {
    const { nextPageToken } = await world.staff.keys.listApiKeys({ userId, pageSize: 1, ...filter });
    const [filters] = JSON.parse(Buffer.from(nextPageToken, "base64url").toString());
    for (const cursor of cursors) {
      const pageToken = Buffer.from(JSON.stringify([filters, ...cursor])).toString("base64url");
      await assert.rejects(
        world.staff.keys.listApiKeys({ userId, pageToken, ...filter }),
        { code: Code.InvalidArgument, rawMessage: /^page_token/ },
        JSON.stringify(cursor),
      );
    }
    for (const foreign of [{}, { unusedForDays: 8 }, { expiresWithinDays: 8 }, { ...filter, search: "a" }]) {
      await assert.rejects(world.staff.keys.listApiKeys({ userId, pageToken: nextPageToken, ...foreign }), {
        code: Code.InvalidArgument,
        rawMessage: /^page_token/,
      });
    }
  }
});
