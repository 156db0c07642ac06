/** latchkey.v1.UserAdminService over RPC: who may call it, what it makes of users, how it lists and changes them. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { User } from "../../src/gen/latchkey/v1/user_admin_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  secretKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";

let latchkey: TestServer;
let staff: Clients;
let ada: { userId: bigint; apiKeyId: string; token: string };
before(async () => {
  latchkey = await startServer();
  staff = latchkey.asStaff;
  ada = await createUserAndKey(staff, "ada");
});
after(() => latchkey?.close());

type Fields = Partial<Pick<User, "username" | "email" | "bio" | "isStaff" | "isActive">>;

/** Changes the fields that are given. */
function update(clients: Clients, id: bigint, fields: Fields, paths?: string[]) {
  const named = Object.keys(fields).map((field) => field.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`));
  return clients.admin.updateUser({ user: { id, ...fields }, updateMask: { paths: paths ?? named } });
}

/** Every method, called with what staff may ask for; the deletion is of nobody. */
const methods: Record<string, (clients: Clients) => Promise<unknown>> = {
  CreateUser: ({ admin }) => admin.createUser({ username: `made-${made++}` }),
  GetUser: ({ admin }) => admin.getUser({ id: ada.userId }),
  ListUsers: ({ admin }) => admin.listUsers({}),
  UpdateUser: (clients) => update(clients, ada.userId, { bio: `changed ${made++}` }),
  DeleteUser: ({ admin }) => admin.deleteUser({ id: 999_999n }),
};
let made = 0;

/** The code that a call ends with; 0: ok. */
const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => 0 as const,
    (error: unknown) => ConnectError.from(error).code,
  );

const allCodes = async (clients: Clients) => {
  const codes: Record<string, Code | 0> = {};
  for (const [name, call] of Object.entries(methods)) codes[name] = await codeOf(call(clients));
  return codes;
};

test("every method is for staff: not for anyone, not for a user, and not for a key that may not call it", async () => {
  const all = (code: Code) => Object.fromEntries(Object.keys(methods).map((name) => [name, code]));
  const asStaff = { ...all(0 as Code), DeleteUser: Code.NotFound };
  assert.deepEqual(
    await allCodes(clientsOf(connectTransport(latchkey.url, undefined))),
    all(Code.Unauthenticated),
  );
  // Itself and another: no difference.
  const bob = await createUserAndKey(staff, "bob");
  assert.deepEqual(await allCodes(latchkey.as(ada.token)), all(Code.PermissionDenied));
  assert.deepEqual(await allCodes(latchkey.as(bob.token)), all(Code.PermissionDenied));

  const cleo = await createUserAndKey(staff, "cleo");
  await update(staff, cleo.userId, { isStaff: true });
  assert.deepEqual(await allCodes(latchkey.as(cleo.token)), asStaff);
  assert.deepEqual(await allCodes(staff), asStaff);

  for (const [allowed, expected] of [
    ["api.users.*", all(Code.PermissionDenied)],
    ["latchkey.v1.UserAdminService/GetUser", { ...all(Code.PermissionDenied), GetUser: 0 }],
    ["latchkey.v1.UserAdminService/*", asStaff],
  ] as const) {
    const { apiKey, token } = await staff.keys.createApiKey({ userId: cleo.userId, name: allowed });
    await latchkey.sql`UPDATE api_keys SET allowed_methods = ${[allowed]} WHERE id = ${apiKey?.id ?? ""}`;
    assert.deepEqual(await allCodes(latchkey.as(noteSecret(token))), expected, allowed);
  }
});

test("no method is open where authentication is switched off", async () => {
  const open = await startServer({ authEnabled: false, databaseUrl: latchkey.databaseUrl });
  try {
    const codes = Object.values(await allCodes(open.asStaff));
    assert.deepEqual([...new Set(codes)], [Code.Unauthenticated]);
  } finally {
    await open.close();
  }
});

test("a new user is what was asked for, active, and read back as it was answered", async () => {
  for (const isStaff of [false, true]) {
    const fields = { username: `grace-${isStaff}`, email: "grace@example.com", bio: "compiles", isStaff };
    const { user } = await staff.admin.createUser(fields);
    assert.ok(user?.createdAt && user.updatedAt);
    const { $typeName: _, id, createdAt, updatedAt, ...rest } = user;
    assert.ok(id > 0n);
    assert.deepEqual(createdAt, updatedAt);
    assert.ok(Math.abs(timestampDate(createdAt).getTime() - Date.now()) < 60_000);
    assert.deepEqual(rest, { ...fields, isActive: true, activeApiKeyCount: 0 });
    assert.deepEqual((await staff.admin.getUser({ id })).user, user);
  }
});

test("a user's active keys are counted: those that are neither revoked nor expired", async () => {
  const { userId } = await createUserAndKey(staff, "counted");
  const ids = [];
  for (const name of ["revoked", "expired", "expiring"]) {
    const { apiKey, token } = await staff.keys.createApiKey({ userId, name });
    noteSecret(token);
    ids.push(apiKey?.id ?? "");
  }
  await staff.keys.revokeApiKey({ id: ids[0]! });
  await latchkey.sql`UPDATE api_keys SET expires_at = now() WHERE id = ${ids[1]!}`;
  await latchkey.sql`UPDATE api_keys SET expires_at = now() + interval '1 hour' WHERE id = ${ids[2]!}`;
  assert.equal((await staff.admin.getUser({ id: userId })).user?.activeApiKeyCount, 2);
  const { users } = await staff.admin.listUsers({ search: "counted" });
  assert.deepEqual(
    users.map((user) => [user.id, user.activeApiKeyCount]),
    [[userId, 2]],
  );
  assert.equal((await update(staff, userId, { bio: "two" })).user?.activeApiKeyCount, 2);
});

for (const [what, fields] of [
  ["no username", { username: "" }],
  ["a username with a space", { username: "two words" }],
  ["an email without @", { email: "ada.example.com" }],
  ["a bio of 2,001 characters", { bio: "b".repeat(2001) }],
  ["a bio with NUL", { bio: "a\0b" }],
] as const) {
  test(`CreateUser and UpdateUser refuse ${what}`, async () => {
    const [field = ""] = Object.keys(fields);
    const expected = { code: Code.InvalidArgument, rawMessage: new RegExp(`^${field} must`) };
    await assert.rejects(staff.admin.createUser({ username: "refused", ...fields }), expected);
    await assert.rejects(update(staff, ada.userId, fields), expected);
  });
}

test("a user that is not there is not found; an id below 1 is refused", async () => {
  for (const id of [999_999n, 2n ** 63n - 1n]) {
    const expected = { code: Code.NotFound, rawMessage: `user ${id} not found` };
    await assert.rejects(staff.admin.getUser({ id }), expected);
    await assert.rejects(update(staff, id, { isStaff: true }), expected);
    await assert.rejects(staff.admin.deleteUser({ id }), expected);
  }
  for (const id of [0n, -1n]) {
    await assert.rejects(staff.admin.getUser({ id }), { code: Code.InvalidArgument, rawMessage: /^id must/ });
    await assert.rejects(update(staff, id, { bio: "" }), {
      code: Code.InvalidArgument,
      rawMessage: /^user.id must/,
    });
    await assert.rejects(staff.admin.deleteUser({ id }), {
      code: Code.InvalidArgument,
      rawMessage: /^id must/,
    });
  }
});

for (const [what, request, message] of [
  [
    "no mask",
    { user: { id: 1n } },
    /^update_mask must name what changes: username, email, bio, is_staff, is_active$/,
  ],
  ["an empty mask", { user: { id: 1n }, updateMask: { paths: [] } }, /^update_mask must name/],
  [
    "a field that is none",
    { user: { id: 1n }, updateMask: { paths: ["bio", "hash"] } },
    /"hash", which cannot be changed: it takes username, email/,
  ],
  ["the id", { user: { id: 1n }, updateMask: { paths: ["id"] } }, /"id"/],
  [
    "the count of keys",
    { user: { id: 1n }, updateMask: { paths: ["active_api_key_count"] } },
    /"active_api_key_count"/,
  ],
  ["everything at once", { user: { id: 1n }, updateMask: { paths: ["*"] } }, /"\*"/],
  ["a path in the words of JSON", { user: { id: 1n }, updateMask: { paths: ["isStaff"] } }, /"isStaff"/],
  ["no user", { updateMask: { paths: ["bio"] } }, /^user must be given/],
] as const) {
  test(`UpdateUser refuses ${what}`, async () => {
    await assert.rejects(
      staff.admin.updateUser({
        ...request,
        updateMask: request.updateMask && { paths: [...request.updateMask.paths] },
      }),
      { code: Code.InvalidArgument, rawMessage: message },
    );
  });
}

test("UpdateUser changes what the mask names and nothing else, and answers with the user as it is", async () => {
  const { user } = await staff.admin.createUser({
    username: "masked",
    email: "m@example.com",
    bio: "before",
  });
  assert.ok(user);
  const given = { username: "Renamed", email: "r@example.com", bio: "after", isStaff: true, isActive: false };
  let expected: Fields = {
    username: "masked",
    email: "m@example.com",
    bio: "before",
    isStaff: false,
    isActive: true,
  };
  for (const [field, path] of [
    ["username", "username"],
    ["email", "email"],
    ["bio", "bio"],
    ["isStaff", "is_staff"],
    ["isActive", "is_active"],
  ] as const) {
    const answer = await update(staff, user.id, given, [path, path]);
    expected = { ...expected, [field]: given[field] };
    const { username, email, bio, isStaff, isActive } = answer.user as User;
    assert.deepEqual({ username, email, bio, isStaff, isActive }, expected);
    assert.deepEqual((await staff.admin.getUser({ id: user.id })).user, answer.user);
  }
  // Over JSON, masks have the fields' names as JSON has them.
  const answer = await fetch(`${latchkey.url}/latchkey.v1.UserAdminService/UpdateUser`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secretKey}` },
    body: JSON.stringify({ user: { id: String(user.id), isActive: true }, updateMask: "isActive,bio" }),
  });
  const { user: changed } = (await answer.json()) as { user: { bio?: string; isActive?: boolean } };
  assert.deepEqual([changed.isActive, changed.bio], [true, undefined]);
});

test("an update that changes nothing moves no time and is not audited", async () => {
  const { user } = await staff.admin.createUser({ username: "steady", isStaff: true });
  const id = user?.id ?? 0n;
  const same = { username: "steady", email: "", bio: "", isStaff: true, isActive: true };
  assert.deepEqual((await update(staff, id, same)).user, user);
  const events = () =>
    latchkey.sql`SELECT action, before, after FROM audit_events WHERE target_user_id = ${String(id)} ORDER BY id`;
  assert.deepEqual(
    (await events()).map(({ action }) => action),
    ["user.create"],
  );
  // What differs is told, and only that.
  const { user: changed } = await update(staff, id, { ...same, bio: "new", isStaff: false });
  assert.ok(timestampDate(changed!.updatedAt!) > timestampDate(user!.updatedAt!));
  assert.deepEqual(
    { ...(await events())[1] },
    {
      action: "user.update",
      before: { bio: "", is_staff: true },
      after: { bio: "new", is_staff: false },
    },
  );
});

test("a username is taken without regard to case; its own user may write it otherwise", async () => {
  const { user } = await staff.admin.createUser({ username: "Hopper" });
  const taken = (username: string) => ({
    code: Code.AlreadyExists,
    rawMessage: `username ${username} is taken: choose another`,
  });
  for (const username of ["Hopper", "hOPPER"]) {
    await assert.rejects(staff.admin.createUser({ username }), taken(username));
    await assert.rejects(update(staff, ada.userId, { username }), taken(username));
  }
  assert.equal((await update(staff, user!.id, { username: "HOPPER" })).user?.username, "HOPPER");
  await update(staff, user!.id, { username: "grace.h" });
  // The old one is free again, the new one is not.
  await assert.rejects(staff.admin.createUser({ username: "Grace.H" }), taken("Grace.H"));
  await staff.admin.createUser({ username: "hopper" });
});

test("two users whose names are exchanged at once do not wait for each other for ever", async () => {
  const own = await startServer();
  try {
    // Between the change of a row and the look at who has its new name lies an index that takes its time:
    // two changes at once would each have given up the name that the other one asks for.
    await own.sql.unsafe(`
      CREATE FUNCTION slowly(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.2); RETURN $1; END $$;
      DROP INDEX users_username_key;
      CREATE INDEX slow ON users (slowly(email)) WHERE email = 'slow';
      CREATE UNIQUE INDEX users_username_key ON users (username_key)`);
    const first = (await own.asStaff.admin.createUser({ username: "a" })).user!.id;
    const second = (await own.asStaff.admin.createUser({ username: "b" })).user!.id;
    await own.sql`UPDATE users SET email = 'slow' WHERE id > 2`;
    const codes = await Promise.all([
      codeOf(update(own.asStaff, first, { username: "b" })),
      codeOf(update(own.asStaff, second, { username: "a" })),
    ]);
    assert.deepEqual(codes, [Code.AlreadyExists, Code.AlreadyExists]);
  } finally {
    await own.close();
  }
});

test("deleting a user says how many active keys went with it, and each is audited", async () => {
  const { userId } = await createUserAndKey(staff, "leaving");
  const { apiKey, token } = await staff.keys.createApiKey({ userId, name: "revoked" });
  await staff.keys.revokeApiKey({ id: apiKey!.id });
  noteSecret(token);
  noteSecret((await staff.keys.createApiKey({ userId, name: "active" })).token);
  assert.equal((await staff.admin.deleteUser({ id: userId })).endedApiKeyCount, 2);
  await assert.rejects(staff.admin.getUser({ id: userId }), { code: Code.NotFound });
  const actions = await latchkey.sql`
    SELECT action, count(*)::int AS n FROM audit_events
    WHERE target_user_id = ${String(userId)} AND action LIKE '%.delete' GROUP BY action ORDER BY action`;
  assert.deepEqual(
    actions.map(({ action, n }) => [action, n]),
    [
      ["api_key.delete", 3],
      ["user.delete", 1],
    ],
  );
  assert.equal(
    (await staff.admin.deleteUser({ id: (await staff.admin.createUser({ username: "leaving" })).user!.id }))
      .endedApiKeyCount,
    0,
  );
});
