/** CreateApiKey within the limits of the caller's own key. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { ApiKeyStatus } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { until } from "../harness/until.ts";
import {
  aDayMs,
  anHourMs,
  createKeyWorld,
  inMs,
  type KeyWorld,
  keyMethods,
  made,
  whileHeld,
} from "./world.ts";

const getUser = "api.users.UserService/GetUser";

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

test("a user makes keys for itself, and they are its own", async () => {
  const mine = await world.newKey();
  const { userId } = mine.key;
  const second = made(world.latchkey, await mine.client.keys.createApiKey({ userId, name: "second" }));
  assert.equal(second.key.createdBy, userId);
  const { apiKeys } = await second.client.keys.listApiKeys({});
  assert.deepEqual(
    apiKeys.map(({ id }) => id),
    [second.id, mine.id],
  );
});

test("a user makes no key for another, whether there is one or not", async () => {
  const mine = await world.newKey();
  const another = await world.newUser();
  for (const userId of [another, 999_999n]) {
    await assert.rejects(mine.client.keys.createApiKey({ userId, name: "not mine" }), {
      code: Code.PermissionDenied,
      rawMessage: `only staff may make keys of user ${userId}`,
    });
  }
  assert.deepEqual((await world.staff.keys.listApiKeys({ userId: another })).apiKeys, []);
});

test("only staff sets can_verify, and only with a key that may verify itself", async () => {
  const mine = await world.newKey({ canVerify: true });
  const own = { userId: mine.key.userId, name: "a key", canVerify: true };
  await assert.rejects(mine.client.keys.createApiKey(own), {
    code: Code.PermissionDenied,
    rawMessage: "can_verify: only staff may set it",
  });
  const staffId = await world.newUser({ isStaff: true });
  const create = ["latchkey.v1.ApiKeyService/CreateApiKey"];
  const blind = await world.newKey({ userId: staffId, allowedMethods: create });
  await assert.rejects(blind.client.keys.createApiKey({ ...own, allowedMethods: create }), {
    code: Code.PermissionDenied,
    rawMessage: "can_verify: your API key may not verify keys itself",
  });
  for (const allowedMethods of [
    [],
    [keyMethods],
    ["latchkey.*"],
    [...create, "latchkey.v1.ApiKeyService/VerifyApiKey"],
  ]) {
    const staff = await world.newKey({ userId: staffId, allowedMethods });
    const { key } = made(
      world.latchkey,
      await staff.client.keys.createApiKey({ ...own, allowedMethods: allowedMethods.slice(0, 1) }),
    );
    assert.equal(key.canVerify, true);
  }
});

interface Wanted {
  allowedMethods?: string[];
  allowedAddresses?: string[];
  expiresAt?: Timestamp | undefined;
}

for (const isStaff of [false, true]) {
  const who = isStaff ? "a staff user" : "a user";
  const cases: [string, Wanted, RegExp | undefined][] = [
    ["the same", {}, undefined],
    ["every method", { allowedMethods: [] }, /^allowed_methods: none means every method/],
    ["another method", { allowedMethods: [getUser, "b.*"] }, /^allowed_methods: b\.\* is more/],
    ["fewer methods", { allowedMethods: [getUser] }, undefined],
    ["anywhere", { allowedAddresses: [] }, /^allowed_addresses: none means from anywhere/],
    ["another address", { allowedAddresses: ["127.0.0.1", "10.0.0.1"] }, /all of 10\.0\.0\.1\/32$/],
    ["fewer addresses", { allowedAddresses: ["127.0.0.1"] }, undefined],
    ["never expiring", { expiresAt: undefined }, /^expires_at: your API key ends at .*Z, and so must/],
    ["living a day longer", { expiresAt: inMs(3 * aDayMs) }, /^expires_at: your API key ends at/],
    ["ending before", { expiresAt: inMs(anHourMs) }, undefined],
  ];
  for (const [what, wanted, refused] of cases) {
    test(`${who} with a restricted key ${refused ? "cannot make" : "makes"} one with ${what}`, async () => {
      const scope = {
        allowedMethods: [keyMethods, "api.users.*"],
        allowedAddresses: ["127.0.0.0/8"],
        expiresAt: inMs(2 * aDayMs),
      };
      const userId = await world.newUser({ isStaff });
      const caller = await world.newKey({ userId, ...scope });
      const forWhom = isStaff ? await world.newUser() : userId;
      const { expiresAt, ...rest }: Wanted = { ...scope, ...wanted };
      const request = { userId: forWhom, name: "a key", ...rest, ...(expiresAt && { expiresAt }) };
      const call = caller.client.keys.createApiKey(request);
      if (refused === undefined) {
        noteSecret((await call).token);
        return;
      }
      await assert.rejects(call, { code: Code.PermissionDenied, rawMessage: refused });
      assert.equal((await world.staff.keys.listApiKeys({ userId: forWhom })).apiKeys.length, isStaff ? 0 : 1);
    });
  }
}

test("a rotated key cannot undo its end, nor act on what replaced it, nor make what outlives it", async () => {
  const old = await world.newKey({});
  const { userId } = old.key;
  const rotated = await world.staff.keys.rotateApiKey({ id: old.id });
  const successor = made(world.latchkey, rotated);
  const ends = rotated.rotatedFrom?.expiresAt;
  assert.ok(ends);
  const { keys } = old.client;
  const forever = { id: old.id, name: "for ever" };
  for (const refused of [
    () => keys.createApiKey({ userId, name: "a key" }),
    () => keys.createApiKey({ userId, name: "a key", expiresAt: inMs(2 * aDayMs) }),
    () => keys.updateApiKey({ apiKey: forever, updateMask: { paths: ["expires_at"] } }),
    () => keys.rotateApiKey({ id: successor.id, grace: { seconds: 0n } }),
  ]) {
    await assert.rejects(refused(), { code: Code.PermissionDenied, rawMessage: /^expires_at/ });
  }
  noteSecret((await keys.createApiKey({ userId, name: "a key", expiresAt: ends })).token);
  const stored = await world.stored(old.id);
  assert.deepEqual(stored.expiresAt, ends);
  assert.equal((await world.stored(successor.id)).status, ApiKeyStatus.ACTIVE);
});

for (const [what, change, refusal] of [
  [
    "narrowed",
    "allowed_methods = '{latchkey.*}'",
    { code: Code.PermissionDenied, rawMessage: /^allowed_methods/ },
  ],
  ["revoked", "revoked_at = now()", { code: Code.Unauthenticated, rawMessage: "your API key has ended" }],
  ["expired", "expires_at = now()", { code: Code.Unauthenticated, rawMessage: "your API key has ended" }],
] as const) {
  test(`a key that is ${what} while it makes another makes none`, async () => {
    const caller = await world.newKey();
    const { userId } = caller.key;
    const create = () => caller.client.keys.createApiKey({ userId, name: "too late" });
    await assert.rejects(
      whileHeld(
        world.sql,
        (tx) => tx.unsafe(`UPDATE api_keys SET ${change} WHERE id = '${caller.id}'`),
        create,
      ),
      refusal,
    );
    assert.equal((await world.staff.keys.listApiKeys({ userId })).apiKeys.length, 1);
  });
}

test("a user that is disabled while it makes a key makes none", async () => {
  const caller = await world.newKey();
  const { userId } = caller.key;
  const disable = (tx: { unsafe(text: string): Promise<unknown> }) =>
    tx.unsafe(`UPDATE users SET is_active = false WHERE id = ${userId}`);
  await assert.rejects(
    whileHeld(world.sql, disable, () => caller.client.keys.createApiKey({ userId, name: "too late" })),
    { code: Code.Unauthenticated },
  );
  assert.equal((await world.staff.keys.listApiKeys({ userId })).apiKeys.length, 1);
});

test("a key may do at once what it was made for, and no more", async () => {
  const mine = await world.newKey();
  const { userId } = mine.key;
  const narrow = made(
    world.latchkey,
    await mine.client.keys.createApiKey({ userId, name: "narrow", allowedMethods: [getUser] }),
  );
  assert.equal((await narrow.client.users.getUser({ userId })).id, userId);
  await assert.rejects(narrow.client.keys.listApiKeys({}), { code: Code.PermissionDenied });
  const elsewhere = made(
    world.latchkey,
    await mine.client.keys.createApiKey({ userId, name: "elsewhere", allowedAddresses: ["192.0.2.0/24"] }),
  );
  await assert.rejects(elsewhere.client.users.getUser({ userId }), { code: Code.PermissionDenied });
  // Refused for its address, it has been used by nobody.
  await until(
    () => world.stored(narrow.id),
    ({ requestCount }) => requestCount === 2n,
  );
  assert.equal((await world.stored(elsewhere.id)).requestCount, 0n);
});
