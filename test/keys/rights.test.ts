/** Whatever is done with keys in whatever order, none gains a right that those it comes from lacked. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { type ApiKeyRecord, scopeOf } from "../../src/keys/record.ts";
import { excessOf, type Scope } from "../../src/keys/scope.ts";
import { aDayMs, createKeyWorld, type KeyWorld, keyMethods, type MadeKey, made } from "./world.ts";

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

const now = Math.floor(Date.now() / 1000) * 1000;
const inDays = (days: number) => timestampFromDate(new Date(now + days * aDayMs));

/** Two keys of a user, neither within the other in any part: what a third gets of both, it got of none. */
const roots = [
  {
    allowedMethods: [keyMethods, "a.*"],
    allowedAddresses: ["127.0.0.0/8", "10.0.0.0/8"],
    expiresAt: inDays(20),
    canVerify: false,
  },
  {
    allowedMethods: [keyMethods, "b.*"],
    allowedAddresses: ["127.0.0.0/16", "192.0.2.0/24"],
    expiresAt: inDays(30),
    canVerify: true,
  },
];

/** Often with what it takes to call with the key again. */
const methods = fc
  .constantFrom(
    [keyMethods],
    [keyMethods, "a.B/C"],
    [keyMethods, "a.*"],
    [keyMethods, "b.*"],
    [keyMethods, "a.*", "b.*"],
    ["*"],
    [],
  )
  .map((list) => [...list]);
const addresses = fc
  .constantFrom(
    ["127.0.0.1/32"],
    ["127.0.0.1/32", "10.1.0.0/16"],
    ["127.0.0.1/32", "192.0.2.0/24"],
    ["127.0.0.0/8"],
    [],
  )
  .map((list) => [...list]);
const action = fc.record({
  kind: fc.constantFrom(
    "create",
    "create",
    "create",
    "update",
    "update",
    "update",
    "rotate",
    "rotate",
    "revoke",
  ),
  by: fc.nat(7),
  target: fc.nat(7),
  paths: fc.subarray(["allowed_methods", "allowed_addresses", "expires_at", "can_verify"], { minLength: 1 }),
  allowedMethods: methods,
  allowedAddresses: addresses,
  expiresInDays: fc.option(fc.constantFrom(5, 10, 20, 25, 30, 40)),
  canVerify: fc.boolean(),
});
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

const done: Record<string, number> = {};
const refused: Record<string, number> = {};

async function run(
  keys: MadeKey[],
  { kind, by, target, paths, expiresInDays, ...rest }: Action,
): Promise<void> {
  const caller = keys[by % keys.length]!;
  const { id, key } = keys[target % keys.length]!;
  const { keys: client } = caller.client;
  const wanted = { ...rest, ...(expiresInDays !== null && { expiresAt: inDays(expiresInDays) }) };
  switch (kind) {
    case "create": {
      const request = { userId: key.userId, name: "a key", ...wanted, canVerify: false };
      keys.push(made(world.latchkey, await client.createApiKey(request)));
      return;
    }
    case "update":
      await client.updateApiKey({ apiKey: { ...wanted, id }, updateMask: { paths } });
      return;
    case "rotate":
      keys.push(
        made(world.latchkey, await client.rotateApiKey({ id, grace: { seconds: 864_000n, nanos: 0 } })),
      );
      return;
    default:
      await client.revokeApiKey({ id });
  }
}

test("every key that comes of others lies within one of those that staff made", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 8, maxLength: 16 }), async (actions) => {
      const userId = await world.newUser();
      const keys: MadeKey[] = [];
      for (const root of roots) keys.push(await world.newKey({ ...root, userId }));
      const limits = await scopesOf(userId);
      for (const each of actions) {
        try {
          await run(keys, each);
          done[each.kind] = (done[each.kind] ?? 0) + 1;
        } catch (error) {
          const { code, message } = ConnectError.from(error);
          const expected = [Code.PermissionDenied, Code.Unauthenticated, Code.FailedPrecondition];
          assert.ok(expected.includes(code), message);
          refused[each.kind] = (refused[each.kind] ?? 0) + 1;
        }
        for (const scope of await scopesOf(userId)) {
          const beyond = limits.map((limit) => excessOf(scope, limit));
          assert.ok(beyond.includes(undefined), `${JSON.stringify(each)}: ${beyond.join("; ")}`);
        }
      }
    }),
    { numRuns: 40 },
  );
  // Else this would have tried nothing.
  for (const kind of ["create", "update", "rotate", "revoke"]) {
    assert.ok((done[kind] ?? 0) > 0, JSON.stringify({ done, refused }));
  }
  for (const kind of ["create", "update", "rotate"]) {
    assert.ok((refused[kind] ?? 0) > 0, JSON.stringify({ done, refused }));
  }
});

async function scopesOf(userId: bigint): Promise<Scope[]> {
  const rows = await world.sql<
    Pick<ApiKeyRecord, "allowedMethods" | "allowedAddresses" | "expiresAt" | "canVerify">[]
  >`
    SELECT allowed_methods AS "allowedMethods", allowed_addresses AS "allowedAddresses",
      expires_at AS "expiresAt", can_verify AS "canVerify"
    FROM api_keys WHERE user_id = ${String(userId)}`;
  return rows.map(scopeOf);
}
