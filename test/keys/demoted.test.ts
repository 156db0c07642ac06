/** What was let in as staff's and waits: it does nothing for others once its user is no longer staff. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clients } from "../harness/server.ts";
import { createKeyWorld, type KeyWorld, whileHeld } from "./world.ts";

let world: KeyWorld;
before(async () => {
  world = await createKeyWorld();
});
after(() => world.close());

/** What only staff may do: to another user, or to a key of it. */
const changes: Record<string, (clients: Clients, userId: bigint, keyId: string) => Promise<unknown>> = {
  "makes no key of another user": ({ keys }, userId) => keys.createApiKey({ userId, name: "a key" }),
  "makes none by a request id either": ({ keys }, userId) =>
    keys.createApiKey({ userId, name: "a key", requestId: "once" }),
  "imports no key for another user": ({ keys }, userId) =>
    keys.importApiKeys({
      apiKeys: [{ userId, name: "a key", hash: createHash("sha256").update("an old token").digest("hex") }],
    }),
  "gets no token of another user's key": ({ keys }, _, id) => keys.rotateApiKey({ id }),
  "widens no key of another user": ({ keys }, _, id) =>
    keys.updateApiKey({ apiKey: { id }, updateMask: { paths: ["allowed_methods"] } }),
  "changes no other user": ({ admin }, id) =>
    admin.updateUser({ user: { id, email: "taken@example.com" }, updateMask: { paths: ["email"] } }),
  "disables no other user": ({ admin }, id) =>
    admin.updateUser({ user: { id, isActive: false }, updateMask: { paths: ["is_active"] } }),
  "deletes no other user": ({ admin }, id) => admin.deleteUser({ id }),
};

for (const [name, change] of Object.entries(changes)) {
  test(`a user who is demoted while its call waits ${name}`, async () => {
    const caller = await world.newKey({ userId: await world.newUser({ isStaff: true }) });
    const { key } = await world.newKey({ allowedMethods: ["api.users.*"] });
    const { userId } = key;
    const demote = whileHeld(
      world.sql,
      async (tx) => {
        await tx`UPDATE users SET is_staff = false WHERE id = ${String(caller.key.userId)}`;
        // Who changes a user waits for it.
        await tx`SELECT FROM users WHERE id = ${String(userId)} FOR UPDATE`;
      },
      () => change(caller.client, userId, key.id),
    );
    await assert.rejects(demote, (error) => ConnectError.from(error).code === Code.PermissionDenied);
    assert.deepEqual(await world.stored(key.id), key);
  });
}

test("a user who is demoted while its call waits still changes what is its own", async () => {
  const caller = await world.newKey({ userId: await world.newUser({ isStaff: true }) });
  const { apiKey } = await whileHeld(
    world.sql,
    (tx) => tx`UPDATE users SET is_staff = false WHERE id = ${String(caller.key.userId)}`,
    () =>
      caller.client.keys.updateApiKey({
        apiKey: { id: caller.id, name: "b" },
        updateMask: { paths: ["name"] },
      }),
  );
  assert.equal(apiKey?.name, "b");
});

test("a key that is revoked while its call waits deletes no user", async () => {
  const caller = await world.newKey({ userId: await world.newUser({ isStaff: true }) });
  const id = await world.newUser();
  const deletion = whileHeld(
    world.sql,
    async (tx) => {
      await tx`UPDATE api_keys SET revoked_at = now() WHERE id = ${caller.id}`;
      await tx`SELECT FROM users WHERE id = ${String(id)} FOR UPDATE`;
    },
    () => caller.client.admin.deleteUser({ id }),
  );
  await assert.rejects(deletion, (error) => ConnectError.from(error).code === Code.Unauthenticated);
  assert.equal((await world.staff.admin.getUser({ id })).user?.id, id);
});
