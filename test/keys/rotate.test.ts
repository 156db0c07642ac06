/** RotateApiKey: a new token with the same grants, the old one living on for a while. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ApiKey, ApiKeyStatus, ApiKeyType } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { until } from "../harness/until.ts";
import {
  aDayMs,
  anHourMs,
  createKeyWorld,
  eventsOf,
  inMs,
  type KeyWorld,
  keyMethods,
  made,
  whileHeld,
} from "./world.ts";

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

const seconds = (n: number) => ({ seconds: BigInt(n), nanos: 0 });
const ends = (key: ApiKey | undefined) => {
  assert.ok(key?.expiresAt);
  return timestampDate(key.expiresAt).getTime();
};

test("the new key has the grants and settings of the old one, and each names the other", async () => {
  const expiresAt = inMs(9 * aDayMs);
  const old = await world.newKey({
    name: "job",
    description: "of the night",
    type: ApiKeyType.WEBHOOK,
    expiresAt,
    allowedMethods: ["api.users.*", keyMethods],
    allowedAddresses: ["127.0.0.0/8"],
    canVerify: true,
  });
  const answer = await old.client.keys.rotateApiKey({ id: old.id });
  const { key, client, token } = made(world.latchkey, answer);
  assert.equal(answer.tokenWithheldReason, "");
  assert.notEqual(token, old.token);
  const { id, start, createdAt, updatedAt, createdBy } = key;
  assert.deepEqual(key, {
    ...old.key,
    ...{ id, start, createdAt, updatedAt, createdBy },
    rotatedFrom: old.id,
  });
  assert.ok(id !== old.id && start === token.slice(0, 9));
  assert.equal(createdBy, old.key.userId);
  assert.equal(answer.rotatedFrom?.rotatedTo, key.id);
  assert.deepEqual(answer.rotatedFrom, await world.stored(old.id));
  assert.deepEqual(key, await world.stored(key.id));

  // Both are accepted, and each counts its own traffic.
  const { userId } = key;
  await client.users.getUser({ userId });
  for (let n = 0; n < 2; n++) await old.client.users.getUser({ userId });
  await until(
    () => world.stored(key.id),
    ({ requestCount }) => requestCount === 1n,
  );
  await until(
    () => world.stored(old.id),
    ({ requestCount }) => requestCount === 3n,
  );
});

test("the old key lives for the grace, a day unless said, and never longer than it would have", async () => {
  for (const [grace, own, expected] of [
    [undefined, undefined, aDayMs],
    [undefined, anHourMs, anHourMs],
    [seconds(3600), undefined, anHourMs],
    [seconds(90 * 86_400), undefined, 90 * aDayMs],
    [seconds(90 * 86_400), 2 * aDayMs, 2 * aDayMs],
    [{ seconds: 1n, nanos: 500_999_999 }, undefined, 1500],
  ] as const) {
    const old = await world.newKey({ ...(own && { expiresAt: inMs(own) }) });
    const from = Date.now();
    const answer = await world.staff.keys.rotateApiKey({ id: old.id, ...(grace && { grace }) });
    noteSecret(answer.token);
    if (own === expected) assert.deepEqual(answer.rotatedFrom?.expiresAt, old.key.expiresAt);
    else {
      const left = ends(answer.rotatedFrom);
      assert.ok(left >= from + expected && left <= Date.now() + expected, `${left - from} for ${expected}`);
    }
    assert.deepEqual(answer.apiKey?.expiresAt, old.key.expiresAt);
  }
});

test("a grace of 0 ends the old key at once, and with it what it calls", async () => {
  const old = await world.newKey();
  const answer = await old.client.keys.rotateApiKey({ id: old.id, grace: seconds(0) });
  noteSecret(answer.token);
  assert.equal(answer.rotatedFrom?.status, ApiKeyStatus.EXPIRED);
  const outcome = () => old.client.keys.getApiKey({ id: old.id }).then(() => undefined, ConnectError.from);
  const refusal = await until(outcome, (error) => error !== undefined);
  assert.equal(refusal?.code, Code.Unauthenticated);
  await made(world.latchkey, answer).client.keys.getApiKey({ id: old.id });
});

test("either key can be ended early", async () => {
  for (const which of ["old", "new"] as const) {
    const old = await world.newKey();
    const key = made(world.latchkey, await world.staff.keys.rotateApiKey({ id: old.id }));
    const [ended, other] = which === "old" ? [old, key] : [key, old];
    await other.client.keys.revokeApiKey({ id: ended.id });
    const outcome = () => ended.client.keys.listApiKeys({}).then(() => undefined, ConnectError.from);
    await until(outcome, (error) => error?.code === Code.Unauthenticated);
    await other.client.keys.listApiKeys({});
  }
});

test("a key that is revoked, expired or rotated already, or whose user is disabled, is not rotated", async () => {
  const key = await world.newKey();
  const refused = (message: RegExp) =>
    assert.rejects(world.staff.keys.rotateApiKey({ id: key.id }), {
      code: Code.FailedPrecondition,
      rawMessage: message,
    });
  await world.sql`UPDATE users SET is_active = false WHERE id = ${String(key.key.userId)}`;
  await refused(/^user \d+ is disabled$/);
  await world.sql`UPDATE users SET is_active = true WHERE id = ${String(key.key.userId)}`;
  await world.sql`UPDATE api_keys SET expires_at = '2026-01-01T00:00:00Z' WHERE id = ${key.id}`;
  await refused(new RegExp(`^API key ${key.id} expired at 2026-01-01T00:00:00.000Z$`));
  await world.sql`UPDATE api_keys SET expires_at = NULL WHERE id = ${key.id}`;
  const successor = made(world.latchkey, await world.staff.keys.rotateApiKey({ id: key.id }));
  await refused(new RegExp(`^API key ${key.id} was rotated already, into ${successor.id}$`));
  await world.staff.keys.revokeApiKey({ id: key.id });
  await refused(new RegExp(`^API key ${key.id} was revoked at `));
  // The chain goes on from its end.
  noteSecret((await world.staff.keys.rotateApiKey({ id: successor.id })).token);
  const { apiKeys } = await world.staff.keys.listApiKeys({ userId: key.key.userId });
  assert.equal(apiKeys.length, 3);
});

for (const [what, grace] of [
  ["a negative one", { seconds: -1n, nanos: 0 }],
  ["negative nanos", { seconds: 0n, nanos: -1 }],
  ["too many nanos", { seconds: 0n, nanos: 1_000_000_000 }],
  ["more than 90 days", { seconds: 7_776_000n, nanos: 1_000_000 }],
  ["2^62 seconds", { seconds: 2n ** 62n, nanos: 0 }],
] as const) {
  test(`a grace outside of 0 to 90 days is refused: ${what}`, async () => {
    const { id } = await world.newKey();
    await assert.rejects(world.staff.keys.rotateApiKey({ id, grace }), {
      code: Code.InvalidArgument,
      rawMessage: "grace must be 0 to 90 days; leave it out for 24 hours",
    });
    assert.equal((await world.stored(id)).rotatedTo, "");
  });
}

test("a restricted key rotates itself and what lies within it, and gets no other token", async () => {
  const scope = { allowedMethods: [keyMethods, "api.users.*"], expiresAt: inMs(aDayMs) };
  const caller = await world.newKey(scope);
  const { userId } = caller.key;
  for (const [what, wider] of [
    ["allowed_methods", { ...scope, allowedMethods: [] }],
    ["expires_at", { allowedMethods: [keyMethods] }],
    ["can_verify", { ...scope, allowedMethods: ["api.users.*"], canVerify: true }],
  ] as const) {
    const { id, key } = await world.newKey({ userId, ...wider, allowedMethods: [...wider.allowedMethods] });
    if (what === "can_verify") {
      // With all of the service, the caller may call VerifyApiKey: but not as a verifier.
      assert.equal(caller.key.canVerify, false);
    }
    await assert.rejects(caller.client.keys.rotateApiKey({ id }), {
      code: Code.PermissionDenied,
      rawMessage: new RegExp(`^${what}: `),
    });
    assert.deepEqual(await world.stored(id), key);
  }
  const within = await world.newKey({ userId, ...scope, allowedMethods: [keyMethods] });
  noteSecret((await caller.client.keys.rotateApiKey({ id: within.id })).token);
  noteSecret((await caller.client.keys.rotateApiKey({ id: caller.id })).token);
});

test("staff with a restricted key gets no token that can do more", async () => {
  const userId = await world.newUser({ isStaff: true });
  const staff = await world.newKey({ userId, allowedMethods: [keyMethods] });
  const { id } = await world.newKey();
  await assert.rejects(staff.client.keys.rotateApiKey({ id }), {
    code: Code.PermissionDenied,
    rawMessage: /^allowed_methods: none means every method/,
  });
});

test("a key that is narrowed while it rotates another gets no wider token", async () => {
  const caller = await world.newKey();
  const { id } = await world.newKey({ userId: caller.key.userId });
  await assert.rejects(
    whileHeld(
      world.sql,
      (tx) => tx`UPDATE api_keys SET allowed_methods = ${[keyMethods]} WHERE id = ${caller.id}`,
      () => caller.client.keys.rotateApiKey({ id }),
    ),
    { code: Code.PermissionDenied },
  );
  assert.equal((await world.stored(id)).rotatedTo, "");
});

test("what a key is narrowed to while it is rotated is what the new one has", async () => {
  const { id } = await world.newKey();
  const answer = await whileHeld(
    world.sql,
    (tx) => tx`UPDATE api_keys SET allowed_methods = '{a.*}' WHERE id = ${id}`,
    () => world.staff.keys.rotateApiKey({ id }),
  );
  noteSecret(answer.token);
  assert.deepEqual(answer.apiKey?.allowedMethods, ["a.*"]);
});

test("of rotations at once one wins, by several keys too", async () => {
  const key = await world.newKey();
  const another = await world.newKey({ userId: key.key.userId });
  const rotations = await Promise.allSettled(
    [key, another, key, another, { client: world.staff }].map(({ client }) =>
      client.keys.rotateApiKey({ id: key.id }),
    ),
  );
  const won = rotations.filter((outcome) => outcome.status === "fulfilled");
  assert.equal(won.length, 1);
  noteSecret(won[0]?.value.token ?? "");
  for (const outcome of rotations) {
    if (outcome.status === "fulfilled") continue;
    assert.equal(ConnectError.from(outcome.reason).code, Code.FailedPrecondition);
  }
  assert.equal((await world.staff.keys.listApiKeys({ userId: key.key.userId })).apiKeys.length, 3);
});

test("a rotation is audited on both keys", async () => {
  const old = await world.newKey({ name: "audited" });
  const answer = await old.client.keys.rotateApiKey({ id: old.id });
  noteSecret(answer.token);
  const id = answer.apiKey?.id ?? "";
  const [, rotated, ...more] = await eventsOf(world.sql, old.id);
  assert.deepEqual(more, []);
  assert.deepEqual(
    { ...rotated },
    {
      action: "api_key.rotate",
      actor_api_key_id: old.id,
      before: { expires_at: null, rotated_to: null },
      after: { expires_at: new Date(ends(answer.rotatedFrom)).toISOString(), rotated_to: id },
    },
  );
  const [created] = await eventsOf(world.sql, id);
  assert.equal(created?.action, "api_key.create");
  assert.equal(created.actor_api_key_id, old.id);
  assert.equal(created.after.rotated_from, old.id);
});
