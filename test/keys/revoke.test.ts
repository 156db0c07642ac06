/** RevokeApiKey with its reason, and RevokeAllApiKeys. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ApiKeyStatus, RevocationReason } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { until } from "../harness/until.ts";
import { anHourMs, createKeyWorld, eventsOf, inMs, type KeyWorld, keyMethods, whileHeld } from "./world.ts";

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

async function statuses(userId: bigint): Promise<Record<string, ApiKeyStatus>> {
  const { apiKeys } = await world.staff.keys.listApiKeys({ userId });
  return Object.fromEntries(apiKeys.map(({ id, status }) => [id, status]));
}

test("why a key was revoked is kept, shown and audited", async () => {
  const { id } = await world.newKey();
  const reason = RevocationReason.COMPROMISED;
  const note = "seen in a paste, ünicode and all 🗝";
  const { apiKey } = await world.staff.keys.revokeApiKey({ id, reason, note });
  assert.equal(apiKey?.revocationReason, reason);
  assert.equal(apiKey.revocationNote, note);
  assert.deepEqual(apiKey.updatedAt, apiKey.revokedAt);
  const [, event] = await eventsOf(world.sql, id);
  assert.deepEqual(event?.before, { revoked_at: null });
  assert.ok(apiKey.revokedAt);
  assert.deepEqual(event.after, {
    revoked_at: timestampDate(apiKey.revokedAt).toISOString(),
    revocation_reason: "compromised",
    revocation_note: note,
  });
  // Revoking again changes nothing, the reason neither.
  const again = await world.staff.keys.revokeApiKey({ id, reason: RevocationReason.UNUSED, note: "b" });
  assert.deepEqual(again.apiKey, apiKey);
  assert.equal((await eventsOf(world.sql, id)).length, 2);
});

for (const reason of [0, 1, 2, 3, 4] as RevocationReason[]) {
  test(`a key is revoked for the reason ${RevocationReason[reason]}`, async () => {
    const { id } = await world.newKey();
    assert.equal((await world.staff.keys.revokeApiKey({ id, reason })).apiKey?.revocationReason, reason);
  });
}

for (const [what, request, message] of [
  ["an unknown reason", { reason: 5 as RevocationReason }, /^reason 5 is none of RevocationReason/],
  ["a negative reason", { reason: -1 as RevocationReason }, /^reason -1 is none/],
  ["a note of 1001 characters", { note: "n".repeat(1001) }, /^note must have at most 1000/],
  ["a note with NUL", { note: "\0" }, /^note must not contain/],
] as const) {
  test(`revoking refuses ${what} and revokes nothing`, async () => {
    const { id, key } = await world.newKey();
    const refused = { code: Code.InvalidArgument, rawMessage: message };
    await assert.rejects(world.staff.keys.revokeApiKey({ id, ...request }), refused);
    await assert.rejects(world.staff.keys.revokeAllApiKeys({ userId: key.userId, ...request }), refused);
    assert.deepEqual(await world.stored(id), key);
  });
}

test("a restricted key revokes any key of its user", async () => {
  const caller = await world.newKey({ allowedMethods: [keyMethods], expiresAt: inMs(anHourMs) });
  const { id } = await world.newKey({ userId: caller.key.userId });
  const { apiKey } = await caller.client.keys.revokeApiKey({ id });
  assert.equal(apiKey?.status, ApiKeyStatus.REVOKED);
});

test("all keys of a user are revoked that are not yet, expired ones too, and no other's", async () => {
  const [mine, expired, revoked] = [await world.newKey(), await world.newKey(), await world.newKey()];
  const { userId } = mine.key;
  for (const { id } of [expired, revoked]) {
    await world.sql`UPDATE api_keys SET user_id = ${String(userId)} WHERE id = ${id}`;
  }
  await world.sql`UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE id = ${expired.id}`;
  const before = (await world.staff.keys.revokeApiKey({ id: revoked.id })).apiKey;
  const others = await world.newKey();
  const reason = RevocationReason.USER_ENDED;
  const answer = await world.staff.keys.revokeAllApiKeys({ userId, reason, note: "has left" });
  assert.equal(answer.revokedCount, 2);
  for (const { id } of [mine, expired]) {
    const key = await world.stored(id);
    assert.deepEqual(
      [key.status, key.revocationReason, key.revocationNote],
      [ApiKeyStatus.REVOKED, reason, "has left"],
    );
    const events = (await eventsOf(world.sql, id)).filter(({ action }) => action === "api_key.revoke");
    assert.equal(events.length, 1);
    assert.equal(events[0]?.after.revocation_note, "has left");
  }
  assert.deepEqual(await world.stored(revoked.id), before);
  assert.equal((await world.stored(others.id)).status, ApiKeyStatus.ACTIVE);
  assert.equal((await world.staff.keys.revokeAllApiKeys({ userId })).revokedCount, 0);
  const outcome = () => mine.client.keys.listApiKeys({}).then(() => undefined, ConnectError.from);
  await until(outcome, (error) => error?.code === Code.Unauthenticated);
});

test("a user ends all of its keys, or all but the one it calls with", async () => {
  const mine = await world.newKey({ allowedMethods: [keyMethods] });
  const { userId } = mine.key;
  const [first, second] = [await world.newKey({ userId }), await world.newKey({ userId })];
  assert.equal((await mine.client.keys.revokeAllApiKeys({ userId, keepOwn: true })).revokedCount, 2);
  const { ACTIVE, REVOKED } = ApiKeyStatus;
  assert.deepEqual(await statuses(userId), { [mine.id]: ACTIVE, [first.id]: REVOKED, [second.id]: REVOKED });
  assert.equal((await mine.client.keys.revokeAllApiKeys({ userId })).revokedCount, 1);
  assert.equal((await statuses(userId))[mine.id], REVOKED);
});

test("another user's keys are left to staff, and a user that is not there is not found", async () => {
  const mine = await world.newKey();
  const others = await world.newKey();
  for (const userId of [others.key.userId, 999_999n]) {
    await assert.rejects(mine.client.keys.revokeAllApiKeys({ userId }), {
      code: Code.PermissionDenied,
      rawMessage: `only staff may revoke the keys of user ${userId}`,
    });
  }
  assert.equal((await world.stored(others.id)).status, ApiKeyStatus.ACTIVE);
  await assert.rejects(world.staff.keys.revokeAllApiKeys({ userId: 999_999n }), {
    code: Code.NotFound,
    rawMessage: "user 999999 not found",
  });
  for (const userId of [0n, -1n]) {
    await assert.rejects(world.staff.keys.revokeAllApiKeys({ userId }), { code: Code.InvalidArgument });
  }
});

test("more keys than one statement takes are all revoked", async () => {
  const userId = await world.newUser();
  await world.sql`
    WITH made AS (
      INSERT INTO api_keys (id, user_id, name, type, hash, start)
      SELECT gen_random_uuid(), ${String(userId)}, 'key', 'service', sha256(n::text::bytea), 'lk_000000'
      FROM generate_series(1, 2001) n RETURNING id)
    INSERT INTO api_key_usage (api_key_id) SELECT id FROM made`;
  assert.equal((await world.staff.keys.revokeAllApiKeys({ userId })).revokedCount, 2001);
  const [row] = await world.sql`
    SELECT count(*) FILTER (WHERE revoked_at IS NOT NULL)::int AS keys,
      (SELECT count(DISTINCT target_api_key_id)::int FROM audit_events
       WHERE action = 'api_key.revoke' AND target_user_id = ${String(userId)}) AS events
    FROM api_keys WHERE user_id = ${String(userId)}`;
  assert.deepEqual({ ...row }, { keys: 2001, events: 2001 });
});

test("a key that is being made while all are revoked is revoked with them", async () => {
  const { key } = await world.newKey();
  const { userId } = key;
  // What CreateApiKey does, up to its commit.
  const { revokedCount } = await whileHeld(
    world.sql,
    async (tx) => {
      await tx`SELECT FROM users WHERE id = ${String(userId)} FOR SHARE`;
      await tx`
        INSERT INTO api_keys (id, user_id, name, type, hash, start)
        VALUES (gen_random_uuid(), ${String(userId)}, 'late', 'service', sha256('late'), 'lk_000000')`;
    },
    () => world.staff.keys.revokeAllApiKeys({ userId }),
  );
  assert.equal(revokedCount, 2);
});

test("making, rotating and revoking a user's keys at once ends with every key revoked and none stuck", async () => {
  for (let n = 0; n < 10; n++) {
    const mine = await world.newKey();
    const { userId } = mine.key;
    const another = await world.newKey({ userId });
    const outcomes = await Promise.allSettled([
      mine.client.keys.createApiKey({ userId, name: "a key" }),
      another.client.keys.rotateApiKey({ id: mine.id }),
      mine.client.keys.rotateApiKey({ id: another.id }),
      world.staff.keys.revokeAllApiKeys({ userId }),
      another.client.keys.revokeAllApiKeys({ userId }),
    ]);
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled") continue;
      const { code } = ConnectError.from(outcome.reason);
      // The last of them: rotated meanwhile, a key makes nothing that outlives it.
      const told = [Code.FailedPrecondition, Code.Unauthenticated, Code.PermissionDenied];
      assert.ok(told.includes(code), String(outcome.reason));
    }
    await world.staff.keys.revokeAllApiKeys({ userId });
    const left = Object.values(await statuses(userId)).filter((status) => status !== ApiKeyStatus.REVOKED);
    assert.deepEqual(left, []);
  }
});
