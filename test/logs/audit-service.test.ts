/** latchkey.v1.AuditLogService over RPC: what each event tells, what each filter finds, and how it is paged. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type {
  AuditEvent,
  ListAuditEventsRequestSchema,
} from "../../src/gen/latchkey/v1/audit_log_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  newDirectory,
  secretKey,
  spawnMain,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

type Listing = MessageInitShape<typeof ListAuditEventsRequestSchema>;

let latchkey: TestServer;
let staff: Clients;
before(async () => {
  latchkey = await startServer();
  staff = latchkey.asStaff;
});
after(() => latchkey?.close());

const list = async (request: Listing, clients = staff) =>
  (await clients.audit.listAuditEvents(request)).auditEvents;

/** An event without what is new in each. */
function described({ $typeName: _, id, time, ...rest }: AuditEvent) {
  assert.ok(id > 0n && time);
  assert.ok(Math.abs(timestampDate(time).getTime() - Date.now()) < 60_000);
  return rest;
}

/** Makes a user staff and its key a caller of this listing. */
async function createStaffAndKey(username: string) {
  const made = await createUserAndKey(staff, username);
  await staff.admin.updateUser({
    user: { id: made.userId, isStaff: true },
    updateMask: { paths: ["is_staff"] },
  });
  return made;
}

test("the log is for staff: not for anyone, not for a user, not for a key that may not call it", async () => {
  const ada = await createUserAndKey(staff, "ada");
  const bob = await createStaffAndKey("bob");
  const anonymous = clientsOf(connectTransport(latchkey.url, undefined));
  await assert.rejects(list({}, anonymous), { code: Code.Unauthenticated });
  for (const request of [
    {},
    { actorUserId: ada.userId },
    { targetUserId: ada.userId },
    { targetApiKeyId: ada.apiKeyId },
  ]) {
    await assert.rejects(list(request, latchkey.as(ada.token)), { code: Code.PermissionDenied });
  }
  await list({}, latchkey.as(bob.token));
  for (const [allowed, served] of [
    ["latchkey.v1.UserAdminService/*", false],
    ["latchkey.v1.AuditLogService/ListAuditEvents", true],
  ] as const) {
    const { apiKey, token } = await staff.keys.createApiKey({ userId: bob.userId, name: allowed });
    await latchkey.sql`UPDATE api_keys SET allowed_methods = ${[allowed]} WHERE id = ${apiKey!.id}`;
    const call = list({}, latchkey.as(noteSecret(token)));
    await (served ? call : assert.rejects(call, { code: Code.PermissionDenied }));
  }
  const open = await startServer({ authEnabled: false, databaseUrl: latchkey.databaseUrl });
  try {
    await assert.rejects(list({}, open.asStaff), { code: Code.Unauthenticated });
  } finally {
    await open.close();
  }
});

test("an event tells who did what to whom, with which key, from where, by which request, and what changed", async () => {
  const carol = await createStaffAndKey("carol");
  const asCarol = latchkey.as(carol.token);
  const by = (requestId: string) => ({ headers: { "x-request-id": requestId } });
  const { user } = await asCarol.admin.createUser(
    { username: "dora", email: "dora@example.com", bio: "told" },
    by("r-create"),
  );
  const targetUserId = user!.id;
  const made = await asCarol.keys.createApiKey({ userId: targetUserId, name: "dora's" }, by("r-key"));
  const asDora = latchkey.as(noteSecret(made.token));
  await asDora.users.updateProfile({ bio: "her own" }, by("r-profile"));
  await asCarol.admin.updateUser(
    {
      user: { id: targetUserId, username: "Dora", isActive: false },
      updateMask: { paths: ["username", "is_active", "bio"] },
    },
    by("r-update"),
  );
  await asCarol.keys.revokeApiKey({ id: made.apiKey!.id }, by("r-revoke"));
  await asCarol.admin.deleteUser({ id: targetUserId }, by("r-delete"));

  const who = { actorUserId: carol.userId, actorApiKeyId: carol.apiKeyId, peerAddress: "127.0.0.1" };
  const user1 = { ...who, targetUserId, targetApiKeyId: "" };
  const key1 = { ...who, targetUserId, targetApiKeyId: made.apiKey!.id };
  const fields = { username: "dora", email: "dora@example.com", is_staff: false, is_active: true };
  const events = (await list({ targetUserId })).reverse();
  const [, , , , revoked] = events;
  const expected = [
    { ...user1, action: "user.create", requestId: "r-create", after: fields },
    {
      ...key1,
      action: "api_key.create",
      requestId: "r-key",
      after: {
        name: "dora's",
        description: "",
        type: "service",
        start: made.apiKey!.start,
        allowed_methods: [],
        allowed_addresses: [],
        can_verify: false,
        expires_at: null,
      },
    },
    {
      ...user1,
      actorUserId: targetUserId,
      actorApiKeyId: made.apiKey!.id,
      action: "user.update",
      requestId: "r-profile",
      before: { bio: "told" },
      after: { bio: "her own" },
    },
    {
      ...user1,
      action: "user.update",
      requestId: "r-update",
      before: { username: "dora", is_active: true, bio: "her own" },
      after: { username: "Dora", is_active: false, bio: "" },
    },
    {
      ...key1,
      action: "api_key.revoke",
      requestId: "r-revoke",
      before: revoked?.before,
      after: revoked?.after,
    },
    { ...key1, action: "api_key.delete", requestId: "r-delete" },
    {
      ...user1,
      action: "user.delete",
      requestId: "r-delete",
      before: { ...fields, username: "Dora", is_active: false },
    },
  ];
  assert.deepEqual(
    events.map((event) => ({ before: undefined, after: undefined, ...described(event) })),
    expected.map((event) => ({ before: undefined, after: undefined, ...event })),
  );
  assert.equal(revoked?.before?.revoked_at, null);
  // By the same names they are found in the request log.
  for (const { requestId, action } of expected) {
    const rows = await until(
      async () =>
        (await staff.logs.listRequestLogs({ filter: { service: "" }, pageSize: 1000 })).requestLogs.filter(
          (row) => row.requestId === requestId,
        ),
      ({ length }) => length > 0,
    );
    assert.equal(rows.length, 1, action);
  }
});

test("changes by the secret key, through api.users too, tell its user, no key, and the caller's address and request", async () => {
  const by = { headers: { "x-request-id": "by-secret-key" } };
  const { id } = await staff.users.createUser({ username: "evan" }, by);
  await staff.users.deleteUser({ userId: id }, by);
  const events = await list({ targetUserId: id });
  assert.deepEqual(
    events.map((event) => {
      const { action, actorUserId, actorApiKeyId, peerAddress, requestId } = described(event);
      return [action, actorUserId, actorApiKeyId, peerAddress, requestId];
    }),
    ["user.delete", "user.create"].map((action) => [action, 1n, "", "127.0.0.1", "by-secret-key"]),
  );
});

test("what the server and the bootstrap command do is told of nobody, from nowhere, by no request", async () => {
  const { code, stdout, stderr } = await spawnMain(["bootstrap", "--username", "booted"], {
    DATABASE_URL: latchkey.databaseUrl,
    LATCHKEY_DATA_DIR: newDirectory(),
  }).exited;
  assert.equal(code, 0, stderr);
  noteSecret(stdout.trim());
  const [booted] = (await staff.admin.listUsers({ search: "booted" })).users;
  // The seeded users have the ids 1 and 2.
  for (const [targetUserId, actions] of [
    [1n, ["user.create"]],
    [2n, ["user.create"]],
    [booted!.id, ["api_key.create", "user.create"]],
  ] as const) {
    const events = await list({ targetUserId });
    assert.deepEqual(
      events.map(({ action }) => action),
      actions,
    );
    for (const { actorUserId, actorApiKeyId, peerAddress, requestId } of events) {
      assert.deepEqual([actorUserId, actorApiKeyId, peerAddress, requestId], [0n, "", "", ""]);
    }
  }
});

test("no event holds a token or a hash, whatever was done with a key", async () => {
  const { userId, token } = await createUserAndKey(staff, "fred");
  const second = await staff.keys.createApiKey({ userId, name: "second" });
  await latchkey.as(noteSecret(second.token)).users.updateProfile({ bio: "uses it" });
  await staff.keys.revokeApiKey({ id: second.apiKey!.id });
  await staff.admin.deleteUser({ id: userId });
  const rows = await latchkey.sql`SELECT e::text AS text FROM audit_events e`;
  const all =
    rows.map(({ text }) => text).join("\n") +
    JSON.stringify(await list({ pageSize: 500 }), (_, value) =>
      typeof value === "bigint" ? String(value) : value,
    );
  assert.ok(all.includes(token.slice(0, 9)), "an event shows the start of a token");
  for (const secret of [token, second.token, secretKey]) {
    const digest = createHash("sha256").update(secret).digest();
    for (const form of [
      secret,
      digest.toString("hex"),
      digest.toString("base64"),
      digest.toString("base64url"),
    ]) {
      assert.ok(!all.includes(form));
    }
  }
});
