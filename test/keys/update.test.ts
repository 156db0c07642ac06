/** UpdateApiKey: what the mask names, within the limits of the caller's own key. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ApiKey, ApiKeyStatus, ApiKeyType } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import type { Clients } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import {
  aDayMs,
  anHourMs,
  createKeyWorld,
  eventsOf,
  inMs,
  type KeyWorld,
  keyMethods,
  type MadeKey,
  whileHeld,
} from "./world.ts";

const getUser = "api.users.UserService/GetUser";

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

/** Undefined: named and not set. */
interface Fields {
  name?: string;
  description?: string;
  type?: ApiKeyType;
  expiresAt?: Timestamp | undefined;
  allowedMethods?: string[];
  allowedAddresses?: string[];
  canVerify?: boolean;
  userId?: bigint;
}

const pathOf: Partial<Record<keyof Fields, string>> = {
  expiresAt: "expires_at",
  allowedMethods: "allowed_methods",
  allowedAddresses: "allowed_addresses",
  canVerify: "can_verify",
};

/** Updates the fields that are given. */
async function update(client: Clients, id: string, fields: Fields): Promise<ApiKey> {
  const paths = Object.keys(fields).map((field) => pathOf[field as keyof Fields] ?? field);
  const { expiresAt, ...rest } = fields;
  const { apiKey } = await client.keys.updateApiKey({
    apiKey: { ...rest, ...(expiresAt && { expiresAt }), id },
    updateMask: { paths },
  });
  assert.ok(apiKey);
  return apiKey;
}

interface Limits extends Fields {
  expiresAt?: Timestamp;
}

/** Two keys of one user: what one may do to the other. */
async function pair(caller: Limits, target: Limits): Promise<{ caller: MadeKey; target: MadeKey }> {
  const userId = await world.newUser();
  const key = (limits: Limits) => world.newKey({ ...limits, userId });
  return { caller: await key(caller), target: await key(target) };
}

test("each field that the mask names changes, and no other", async () => {
  const { id, key } = await world.newKey({ description: "as it was", type: ApiKeyType.CLI });
  const values = {
    name: "another name",
    description: "another description",
    type: ApiKeyType.INTERNAL,
    expiresAt: inMs(anHourMs),
    allowedMethods: ["api.users.*", "api.users.*", "*"],
    allowedAddresses: ["203.0.113.7/24"],
    canVerify: true,
  };
  const stored = { ...values, allowedMethods: ["api.users.*", "*"], allowedAddresses: ["203.0.113.0/24"] };
  let expected: Record<string, unknown> = { ...key };
  for (const field of Object.keys(values) as (keyof typeof values)[]) {
    const path = pathOf[field] ?? field;
    // The message is full; the mask names one field.
    const { apiKey } = await world.staff.keys.updateApiKey({
      apiKey: { ...values, id, userId: 1n, status: ApiKeyStatus.REVOKED, requestCount: 99n, createdBy: 99n },
      updateMask: { paths: [path] },
    });
    assert.ok(apiKey?.updatedAt);
    expected = { ...expected, [field]: stored[field], updatedAt: apiKey.updatedAt };
    assert.deepEqual({ ...apiKey }, expected, path);
    assert.deepEqual(await world.stored(id), apiKey);
  }
});

test("a field that is named and not set is cleared", async () => {
  const { id } = await world.newKey({
    description: "d",
    type: ApiKeyType.CLI,
    expiresAt: inMs(anHourMs),
    allowedMethods: ["a.*"],
    allowedAddresses: ["::1"],
    canVerify: true,
  });
  const paths = ["description", "type", "expires_at", "allowed_methods", "allowed_addresses", "can_verify"];
  const { apiKey } = await world.staff.keys.updateApiKey({ apiKey: { id }, updateMask: { paths } });
  assert.equal(apiKey?.description, "");
  assert.equal(apiKey.type, ApiKeyType.SERVICE);
  assert.equal(apiKey.expiresAt, undefined);
  assert.deepEqual([apiKey.allowedMethods, apiKey.allowedAddresses, apiKey.canVerify], [[], [], false]);
});

test("an update is audited with what changed alone, and one that changes nothing is none", async () => {
  const { id, key } = await world.newKey({ name: "before", allowedMethods: ["a.*"] });
  const expiresAt = inMs(anHourMs);
  const changed = await update(world.staff, id, {
    name: "after",
    description: "",
    expiresAt,
    allowedMethods: [],
  });
  assert.ok(key.updatedAt && changed.updatedAt);
  assert.ok(timestampDate(changed.updatedAt) > timestampDate(key.updatedAt));
  assert.deepEqual(await update(world.staff, id, { name: "after", allowedMethods: [], expiresAt }), changed);
  const events = await eventsOf(world.sql, id);
  assert.deepEqual(
    events.map(({ action }) => action),
    ["api_key.create", "api_key.update"],
  );
  assert.deepEqual(events[1]?.before, { name: "before", expires_at: null, allowed_methods: ["a.*"] });
  assert.deepEqual(events[1]?.after, {
    name: "after",
    expires_at: timestampDate(expiresAt).toISOString(),
    allowed_methods: [],
  });
});

const refusals: [string, Fields, RegExp][] = [
  ["an empty name", { name: "" }, /^name must have 1 to 100/],
  ["a long description", { description: "d".repeat(1001) }, /^description must/],
  ["an unknown type", { type: 99 as ApiKeyType }, /^type 99/],
  ["an expiry in the past", { expiresAt: inMs(-1000) }, /^expires_at must be in the future/],
  ["a bad pattern", { allowedMethods: ["*", "a"] }, /^allowed_methods\[1\] must be/],
  ["a bad address", { allowedAddresses: ["a"] }, /^allowed_addresses\[0\] must be/],
  ["a field that cannot be changed", { userId: 1n }, /^update_mask names "userId", which cannot/],
  ["nothing", {}, /^update_mask must name what changes: name, description, type, expires_at, allowed/],
];

for (const [what, fields, message] of refusals) {
  test(`UpdateApiKey refuses ${what} and changes nothing`, async () => {
    const { id, key } = await world.newKey();
    await assert.rejects(update(world.staff, id, fields), {
      code: Code.InvalidArgument,
      rawMessage: message,
    });
    assert.deepEqual(await world.stored(id), key);
  });
}

test("without a key or a mask there is nothing to update", async () => {
  const { id } = await world.newKey();
  const refused = { code: Code.InvalidArgument };
  await assert.rejects(world.staff.keys.updateApiKey({}), refused);
  await assert.rejects(world.staff.keys.updateApiKey({ updateMask: { paths: ["name"] } }), refused);
  await assert.rejects(world.staff.keys.updateApiKey({ apiKey: { id, name: "n" } }), refused);
});

test("a revoked key stays as it is", async () => {
  const { id } = await world.newKey();
  await world.staff.keys.revokeApiKey({ id });
  const key = await world.stored(id);
  await assert.rejects(update(world.staff, id, { name: "another" }), {
    code: Code.FailedPrecondition,
    rawMessage: new RegExp(`^API key ${id} was revoked at .*: it stays as it is$`),
  });
  assert.deepEqual(await world.stored(id), key);
});

test("a change counts at once: methods, addresses and expiry, and an expired key lives again", async () => {
  const { id, key, client } = await world.newKey();
  const { userId } = key;
  const call = () =>
    client.users.getUser({ userId }).then(
      () => "ok",
      (error: unknown) => Code[ConnectError.from(error).code] ?? "",
    );
  const becomes = (outcome: string) => until(call, (found) => found === outcome);
  await becomes("ok");
  await update(world.staff, id, { allowedMethods: [keyMethods] });
  await becomes("PermissionDenied");
  await update(world.staff, id, { allowedMethods: [getUser], allowedAddresses: ["192.0.2.1"] });
  await becomes("PermissionDenied");
  await update(world.staff, id, { allowedAddresses: ["127.0.0.1", "::1"] });
  await becomes("ok");
  await world.sql`UPDATE api_keys SET expires_at = now() WHERE id = ${id}`;
  await becomes("Unauthenticated");
  await update(world.staff, id, { name: "still expired" });
  assert.equal(await call(), "Unauthenticated");
  await update(world.staff, id, { expiresAt: inMs(anHourMs) });
  await becomes("ok");
});

const restricted = {
  allowedMethods: [keyMethods, getUser],
  allowedAddresses: ["127.0.0.0/8"],
  expiresAt: inMs(2 * aDayMs),
};

const changes: [string, Limits, Fields, RegExp | undefined][] = [
  ["a wide key's name", {}, { name: "n", description: "d", type: ApiKeyType.CLI }, undefined],
  ["a wide key to be narrower", {}, { allowedMethods: ["b.*"] }, undefined],
  [
    "a narrow key as far as its own reaches",
    { ...restricted, allowedMethods: [getUser] },
    { allowedMethods: [keyMethods] },
    undefined,
  ],
  [
    "a narrow key to more methods",
    { ...restricted, allowedMethods: [getUser] },
    { allowedMethods: [getUser, "b.*"] },
    /^allowed_methods: b\.\*/,
  ],
  ["a narrow key to every method", restricted, { allowedMethods: [] }, /^allowed_methods: none/],
  ["a narrow key to anywhere", restricted, { allowedAddresses: [] }, /^allowed_addresses: none/],
  ["a key to never expire", restricted, { expiresAt: undefined }, /^expires_at/],
  ["a key to live longer", restricted, { expiresAt: inMs(3 * aDayMs) }, /^expires_at/],
  // Methods of the one and addresses of the other would be a key that the caller has nowhere.
  [
    "methods of a key that works elsewhere",
    { ...restricted, allowedAddresses: ["10.0.0.1"], allowedMethods: [getUser] },
    { allowedMethods: [keyMethods] },
    /^allowed_addresses/,
  ],
  [
    "addresses of a key that calls other methods",
    { ...restricted, allowedMethods: ["b.*"], allowedAddresses: ["127.0.0.2"] },
    { allowedAddresses: ["127.0.0.1"] },
    /^allowed_methods/,
  ],
  [
    "one part wider and another narrower",
    { ...restricted, allowedMethods: ["b.*"] },
    { allowedMethods: [getUser], allowedAddresses: ["127.0.0.1"] },
    undefined,
  ],
  [
    "can_verify to be on",
    { ...restricted, canVerify: false },
    { canVerify: true },
    /^can_verify: only staff/,
  ],
  ["can_verify to be off", { ...restricted, canVerify: true }, { canVerify: false }, undefined],
  [
    "what verifies to more methods",
    { ...restricted, allowedMethods: [getUser], canVerify: true },
    { allowedMethods: [keyMethods] },
    /^can_verify: your API key may not/,
  ],
];

for (const [what, target, change, refused] of changes) {
  test(`a restricted key ${refused ? "cannot change" : "changes"} ${what}`, async () => {
    const keys = await pair(restricted, target);
    const call = update(keys.caller.client, keys.target.id, change);
    if (refused === undefined) await call;
    else {
      await assert.rejects(call, { code: Code.PermissionDenied, rawMessage: refused });
      assert.deepEqual(await world.stored(keys.target.id), keys.target.key);
    }
  });
}

test("a key may narrow itself and never widen itself again", async () => {
  const { id, client } = await world.newKey();
  await update(client, id, { allowedMethods: [keyMethods, getUser], expiresAt: inMs(aDayMs) });
  await update(client, id, { allowedMethods: [keyMethods] });
  for (const wider of [
    { allowedMethods: [keyMethods, getUser] },
    { allowedMethods: [] },
    { expiresAt: undefined },
  ]) {
    await assert.rejects(update(client, id, wider), { code: Code.PermissionDenied });
  }
});

test("staff with a restricted key widens no key of anyone beyond it", async () => {
  const staff = await world.newKey({ userId: await world.newUser({ isStaff: true }), ...restricted });
  const { id } = await world.newKey({ ...restricted, allowedMethods: [getUser] });
  await update(staff.client, id, { allowedMethods: [keyMethods] });
  await assert.rejects(update(staff.client, id, { allowedMethods: ["*"] }), { code: Code.PermissionDenied });
  assert.equal((await update(staff.client, id, { canVerify: true })).canVerify, true);
});

test("a caller's key that is narrowed meanwhile widens nothing by what it was", async () => {
  const { caller, target } = await pair({}, { allowedMethods: [getUser] });
  await assert.rejects(
    whileHeld(
      world.sql,
      (tx) => tx`UPDATE api_keys SET allowed_methods = ${[keyMethods]} WHERE id = ${caller.id}`,
      () => update(caller.client, target.id, { allowedMethods: [] }),
    ),
    { code: Code.PermissionDenied },
  );
  assert.deepEqual((await world.stored(target.id)).allowedMethods, [getUser]);
});

test("keys that change one another at once do not wait for each other forever", async () => {
  const { caller, target } = await pair({}, {});
  for (let n = 0; n < 20; n++) {
    await Promise.all([
      update(caller.client, target.id, { name: `by caller ${n}` }),
      update(target.client, caller.id, { name: `by target ${n}` }),
    ]);
  }
  assert.equal((await world.stored(caller.id)).name, "by target 19");
});
