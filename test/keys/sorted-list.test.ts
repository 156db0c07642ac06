/** What tables of keys are made of: orders, counts, many keys at once. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import {
  type ApiKey,
  ApiKeyOrder,
  ApiKeyStatus,
  RevocationReason,
} from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import type { Clients } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { anHourMs, createKeyWorld, eventsOf, inMs, type KeyWorld, type MadeKey } from "./world.ts";

let world: KeyWorld;
let userId: bigint;
let keys: MadeKey[];

const names = ["beta", "Alpha", "alpha", "émile", "Zulu", "100%", "_under", "beta"];

before(async () => {
  world = await createKeyWorld();
  userId = await world.newUser();
  keys = [];
  for (const [i, name] of names.entries()) {
    keys.push(
      await world.newKey({ userId, name, ...(i % 3 !== 0 && { expiresAt: inMs((10 - i) * anHourMs) }) }),
    );
  }
  // Of all that an order goes by, some have the same, and some nothing.
  for (const [i, { id }] of keys.entries()) {
    await world.sql`
      UPDATE api_key_usage SET request_count = ${i % 3},
        last_used_at = CASE WHEN ${i % 4 !== 0} THEN now() - make_interval(mins => ${i % 3}) END
      WHERE api_key_id = ${id}`;
  }
});
after(() => world.close());

async function walk(
  client: Clients,
  order: ApiKeyOrder,
  descending: boolean,
  pageSize: number,
): Promise<ApiKey[]> {
  const found: ApiKey[] = [];
  let pageToken = "";
  do {
    const page = await client.keys.listApiKeys({ userId, order, descending, pageSize, pageToken });
    assert.ok(page.apiKeys.length <= pageSize);
    found.push(...page.apiKeys);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

const timeOf = (time: ApiKey["expiresAt"], none: number) =>
  time === undefined ? none : Number(time.seconds) * 1e6 + time.nanos / 1e3;
const values: Readonly<Record<string, (key: ApiKey) => number>> = {
  CREATED: ({ createdAt }) => timeOf(createdAt, 0),
  REQUESTS: ({ requestCount }) => Number(requestCount),
  LAST_USED: ({ lastUsedAt }) => timeOf(lastUsedAt, Number.NEGATIVE_INFINITY),
  EXPIRES: ({ expiresAt }) => timeOf(expiresAt, Number.POSITIVE_INFINITY),
};

for (const [name, valueIn] of Object.entries(values)) {
  for (const descending of [false, true]) {
    test(`sorted by ${name}, ${descending ? "descending" : "ascending"}, each key comes once, whatever the page`, async () => {
      const order = ApiKeyOrder[name as keyof typeof ApiKeyOrder];
      const whole = await walk(world.staff, order, descending, 500);
      assert.equal(new Set(whole.map(({ id }) => id)).size, keys.length);
      const sorted = whole.map(valueIn);
      assert.deepEqual(
        sorted,
        sorted.toSorted((a, b) => (a === b ? 0 : a < b ? -1 : 1) * (descending ? -1 : 1)),
      );
      for (const pageSize of [1, 3]) {
        const paged = await walk(world.staff, order, descending, pageSize);
        assert.deepEqual(
          paged.map(({ id }) => id),
          whole.map(({ id }) => id),
        );
      }
    });
  }
}

test("sorted by name, upper and lower case stand together", async () => {
  const ascending = (await walk(world.staff, ApiKeyOrder.NAME, false, 3)).map(({ name }) =>
    name.toLowerCase(),
  );
  const descending = (await walk(world.staff, ApiKeyOrder.NAME, true, 2)).map(({ name }) =>
    name.toLowerCase(),
  );
  assert.deepEqual(ascending.toSorted(), names.map((name) => name.toLowerCase()).toSorted());
  assert.deepEqual(descending, ascending.toReversed());
  const at = (name: string) => ascending.indexOf(name);
  assert.deepEqual([at("beta") - at("alpha"), at("zulu") > at("beta")], [2, true]);
});

test("an order is for one's own keys as for all", async () => {
  const own = await walk(keys[0]!.client, ApiKeyOrder.NAME, false, 3);
  assert.equal(own.length, keys.length);
  assert.ok(own.every((key) => key.username === own[0]?.username && key.userId === userId));
});

test("a damaged page token, and orders that contradict each other, are refused", async () => {
  const { listApiKeys } = world.staff.keys;
  const bad = { code: Code.InvalidArgument };
  for (const order of [1, 2, 3, 4, 5]) {
    const { nextPageToken } = await listApiKeys({ order, pageSize: 1 });
    const [digest = "", ...cursor] = JSON.parse(
      Buffer.from(nextPageToken, "base64url").toString(),
    ) as string[];
    for (const position of ["x", "2026-02-30T00:00:00.000000Z", "1e400", "\0", "infinity", "-1"]) {
      const forged = [digest, position, ...cursor.slice(1)];
      const pageToken = Buffer.from(JSON.stringify(forged)).toString("base64url");
      // A name may be any text.
      if (order === ApiKeyOrder.NAME && position !== "\0")
        await listApiKeys({ order, pageSize: 1, pageToken });
      else await assert.rejects(listApiKeys({ order, pageSize: 1, pageToken }), bad, `${order} ${position}`);
    }
    await assert.rejects(listApiKeys({ order, descending: true, pageToken: nextPageToken }), bad);
    await assert.rejects(listApiKeys({ order, unusedForDays: 1 }), bad);
    await assert.rejects(listApiKeys({ order, expiresWithinDays: 1 }), bad);
  }
  await assert.rejects(listApiKeys({ order: 99 as ApiKeyOrder }), bad);
  await assert.rejects(listApiKeys({ descending: true }), bad);
});

test("keys are found by the name of their user", async () => {
  const { username } = await world.stored(keys[0]!.id);
  const { apiKeys } = await world.staff.keys.listApiKeys({ search: username.toUpperCase() });
  assert.deepEqual(new Set(apiKeys.map(({ id }) => id)), new Set(keys.map(({ id }) => id)));
  const other = await world.newKey();
  const { apiKeys: none } = await other.client.keys.listApiKeys({ search: username });
  assert.deepEqual(none, []);
});

test("keys are counted by status, under the filters of the listing", async () => {
  const owner = await world.newUser();
  const made = [];
  for (let i = 0; i < 6; i++) made.push(await world.newKey({ userId: owner, name: i < 2 ? "blue" : "red" }));
  await world.staff.keys.revokeApiKey({ id: made[0]!.id });
  await world.staff.keys.revokeApiKey({ id: made[5]!.id });
  // Revoked and expired is revoked.
  await world.sql`UPDATE api_keys SET expires_at = now() - interval '1 hour' WHERE id IN ${world.sql([made[1]!.id, made[5]!.id])}`;
  const count = async (client: Clients, request: { userId?: bigint; search?: string }) => {
    const { active, expired, revoked } = await client.keys.countApiKeys(request);
    return [active, expired, revoked];
  };
  assert.deepEqual(await count(world.staff, { userId: owner }), [3n, 1n, 2n]);
  assert.deepEqual(await count(world.staff, { userId: owner, search: "BLUE" }), [0n, 1n, 1n]);
  assert.deepEqual(await count(made[2]!.client, {}), [3n, 1n, 2n]);
  await assert.rejects(made[2]!.client.keys.countApiKeys({ userId }), { code: Code.PermissionDenied });
  for (const [status, wanted] of [
    [ApiKeyStatus.ACTIVE, 3],
    [ApiKeyStatus.EXPIRED, 1],
    [ApiKeyStatus.REVOKED, 2],
  ] as const) {
    const { apiKeys } = await world.staff.keys.listApiKeys({ userId: owner, status });
    assert.equal(apiKeys.length, wanted);
  }
});

test("many keys are had at once, but not those of others", async () => {
  const other = await world.newKey();
  const gone = "01890a5d-ac96-774b-bcce-b302099a8057";
  const ids = [...keys.map(({ id }) => id), other.id, gone, keys[0]!.id];
  const asStaff = await world.staff.keys.batchGetApiKeys({ ids });
  assert.deepEqual(
    asStaff.apiKeys.map(({ id }) => id),
    [...keys.map(({ id }) => id), other.id],
  );
  const asOwner = await keys[1]!.client.keys.batchGetApiKeys({ ids });
  assert.deepEqual(
    asOwner.apiKeys.map(({ id }) => id),
    keys.map(({ id }) => id),
  );
  assert.deepEqual((await world.staff.keys.batchGetApiKeys({ ids: [] })).apiKeys, []);
  await assert.rejects(world.staff.keys.batchGetApiKeys({ ids: ["x"] }), { code: Code.InvalidArgument });
  await assert.rejects(world.staff.keys.batchGetApiKeys({ ids: Array(501).fill(gone) }), {
    code: Code.InvalidArgument,
  });
  await assert.rejects(world.anonymous.keys.batchGetApiKeys({ ids }), { code: Code.Unauthenticated });
});

test("many users are had at once, by staff", async () => {
  const { users } = await world.staff.admin.batchGetUsers({ ids: [userId, 1n, 999_999n, userId] });
  assert.deepEqual(
    users.map(({ id }) => id),
    [1n, userId],
  );
  assert.equal(users[1]?.activeApiKeyCount, keys.length);
  await assert.rejects(world.staff.admin.batchGetUsers({ ids: [0n] }), { code: Code.InvalidArgument });
  await assert.rejects(world.staff.admin.batchGetUsers({ ids: Array(501).fill(1n) }), {
    code: Code.InvalidArgument,
  });
  await assert.rejects(keys[0]!.client.admin.batchGetUsers({ ids: [1n] }), { code: Code.PermissionDenied });
});

test("several keys are revoked at once, or none", async () => {
  const owner = await world.newUser();
  const [a, b, c] = [
    await world.newKey({ userId: owner }),
    await world.newKey({ userId: owner }),
    await world.newKey({ userId: owner }),
  ];
  const other = await world.newKey();
  const gone = "01890a5d-ac96-774b-bcce-b302099a8057";
  await world.staff.keys.revokeApiKey({ id: a.id, note: "before" });

  const notFound = { code: Code.NotFound };
  await assert.rejects(world.staff.keys.batchRevokeApiKeys({ ids: [b.id, gone] }), notFound);
  await assert.rejects(c.client.keys.batchRevokeApiKeys({ ids: [b.id, other.id] }), notFound);
  assert.equal((await world.stored(b.id)).status, ApiKeyStatus.ACTIVE);

  const request = { ids: [a.id, b.id, b.id], reason: RevocationReason.COMPROMISED, note: "leaked" };
  assert.equal((await c.client.keys.batchRevokeApiKeys(request)).revokedCount, 1);
  const revoked = await world.stored(b.id);
  assert.deepEqual(
    [revoked.status, revoked.revocationReason, revoked.revocationNote],
    [ApiKeyStatus.REVOKED, RevocationReason.COMPROMISED, "leaked"],
  );
  assert.equal((await world.stored(a.id)).revocationNote, "before");
  await until(
    () =>
      b.client.keys.listApiKeys({}).then(
        () => "let in",
        () => "refused",
      ),
    (outcome) => outcome === "refused",
  );
  const [, event] = await eventsOf(world.sql, b.id);
  assert.deepEqual([event?.action, event?.actor_api_key_id], ["api_key.revoke", c.id]);

  for (const ids of [[], ["x"], Array(501).fill(c.id)]) {
    await assert.rejects(world.staff.keys.batchRevokeApiKeys({ ids }), { code: Code.InvalidArgument });
  }
});
