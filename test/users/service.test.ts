/** api.users.UserService over RPC: who may do what, what it answers and what it refuses. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UserResponse } from "../../src/gen/api/users/user_service_pb.js";
import { ApiKeyStatus } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  clientsOfOwnKey,
  connectTransport,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

const adminId = 1n;

let latchkey: TestServer;
let staff: Clients;
let anonymous: Clients;
let ada: { userId: bigint; apiKeyId: string; token: string };
let bob: typeof ada;
before(async () => {
  latchkey = await startServer();
  staff = latchkey.asStaff;
  anonymous = clientsOf(connectTransport(latchkey.url, undefined));
  ada = await createUserAndKey(staff, "ada");
  bob = await createUserAndKey(staff, "bob");
});
after(() => latchkey.close());

async function collect(stream: AsyncIterable<UserResponse>): Promise<UserResponse[]> {
  const found: UserResponse[] = [];
  for await (const user of stream) found.push(user);
  return found;
}

/** Waits until a credential is refused: the change takes a moment to come round. */
async function refused(call: () => Promise<unknown>): Promise<ConnectError> {
  const outcome = () => call().then(() => undefined, ConnectError.from);
  const error = await until(outcome, (found) => found?.code === Code.Unauthenticated);
  assert.ok(error);
  return error;
}

async function countUsers(username: string): Promise<number> {
  const [row] =
    await latchkey.sql`SELECT count(*)::int AS n FROM users WHERE lower(username) = lower(${username})`;
  return row?.n;
}

test("anyone may read a user; its email is shown to itself and to staff alone", async () => {
  const email = "ada@example.com";
  for (const [clients, expected] of [
    [anonymous, ""],
    [latchkey.as(bob.token), ""],
    [latchkey.as(ada.token), email],
    [staff, email],
  ] as const) {
    const user = await clients.users.getUser({ userId: ada.userId });
    assert.deepEqual([user.id, user.username, user.email], [ada.userId, "ada", expected]);
    const listed = await collect(clients.users.listUsers({}));
    assert.equal(listed.find(({ id }) => id === ada.userId)?.email, expected);
  }
  assert.ok((await collect(anonymous.users.listUsers({}))).every((user) => user.email === ""));
});

test("a user that is not there is not found; an id below 1 is refused", async () => {
  for (const userId of [999_999n, 2n ** 63n - 1n]) {
    const expected = { code: Code.NotFound, rawMessage: `user ${userId} not found` };
    await assert.rejects(anonymous.users.getUser({ userId }), expected);
    await assert.rejects(staff.users.deleteUser({ userId }), expected);
  }
  for (const userId of [0n, -1n, -(2n ** 63n)]) {
    const expected = { code: Code.InvalidArgument, rawMessage: /^user_id must be/ };
    await assert.rejects(anonymous.users.getUser({ userId }), expected);
    await assert.rejects(staff.users.deleteUser({ userId }), expected);
  }
});

test("CreateUser and DeleteUser are for staff, UpdateProfile for any user", async () => {
  const calls = ({ users }: Clients) => [
    () => users.createUser({ username: "nobody" }),
    () => users.deleteUser({ userId: bob.userId }),
  ];
  for (const call of [...calls(anonymous), () => anonymous.users.updateProfile({ bio: "" })]) {
    await assert.rejects(call(), { code: Code.Unauthenticated });
  }
  for (const call of calls(latchkey.as(ada.token)))
    await assert.rejects(call(), { code: Code.PermissionDenied });
  assert.equal(await countUsers("nobody"), 0);
  await anonymous.users.getUser({ userId: bob.userId });
});

test("UpdateProfile changes the caller's bio and nobody else's, and can clear it", async () => {
  const { users } = latchkey.as(ada.token);
  const bobsBio = (await staff.users.getUser({ userId: bob.userId })).bio;
  for (const bio of ["first of her trade", "🗝".repeat(2000), ""]) {
    const answer = await users.updateProfile({ bio });
    assert.deepEqual([answer.id, answer.bio, answer.email], [ada.userId, bio, "ada@example.com"]);
    assert.equal((await anonymous.users.getUser({ userId: ada.userId })).bio, bio);
  }
  assert.equal((await staff.users.getUser({ userId: bob.userId })).bio, bobsBio);
});

for (const [what, bio] of [
  ["of 2,001 characters", "b".repeat(2001)],
  ["with NUL", "a\0b"],
] as const) {
  test(`a bio ${what} is refused and the old one stays`, async () => {
    const { users } = latchkey.as(bob.token);
    await users.updateProfile({ bio: "as it was" });
    const expected = { code: Code.InvalidArgument, rawMessage: /^bio must/ };
    await assert.rejects(users.updateProfile({ bio }), expected);
    await assert.rejects(staff.users.createUser({ username: "bio", bio }), expected);
    assert.equal((await users.getUser({ userId: bob.userId })).bio, "as it was");
  });
}

test("a new user is what was asked for, and is not staff", async () => {
  const user = await staff.users.createUser({
    username: "grace",
    email: "grace@example.com",
    bio: "compiles",
  });
  const { $typeName: _, id, ...rest } = user;
  assert.deepEqual(rest, { username: "grace", email: "grace@example.com", bio: "compiles" });
  assert.deepEqual(await staff.users.getUser({ userId: id }), user);
  const { token } = await staff.keys.createApiKey({ userId: id, name: "grace's" });
  noteSecret(token);
  await assert.rejects(latchkey.as(token).users.createUser({ username: "more" }), {
    code: Code.PermissionDenied,
  });
});

for (const username of ["x", "u".repeat(150), "Zoë", "李", "a@b.c+d-e_f", "007"]) {
  test(`the username ${username.slice(0, 20)} is taken as it is`, async () => {
    assert.equal((await staff.users.createUser({ username })).username, username);
  });
}

for (const [what, fields] of [
  ["no username", { username: "" }],
  ["a username of 151 characters", { username: "u".repeat(151) }],
  ["a username with a space", { username: "two words" }],
  ["a username with a slash", { username: "a/b" }],
  ["a username with a line's end", { username: "abc\n" }],
  ["a username with NUL", { username: "a\0b" }],
  ["a username with a mark in place of a letter", { username: "e\u0301" }],
  ["a username with a quote", { username: "o'neil" }],
  ["an email without @", { email: "ada.example.com" }],
  ["an email with a space", { email: "ada @example.com" }],
  ["an email with two @", { email: "a@b@c" }],
  ["an email with NUL", { email: "a@b\0" }],
  ["an email of 255 characters", { email: `${"a".repeat(249)}@b.com` }],
] as const) {
  test(`CreateUser refuses ${what}`, async () => {
    const [field = ""] = Object.keys(fields);
    await assert.rejects(staff.users.createUser({ username: "refused", ...fields }), {
      code: Code.InvalidArgument,
      rawMessage: new RegExp(`^${field} must`),
    });
    assert.equal(await countUsers("refused"), 0);
  });
}

test("a username is taken without regard to case, also by two that ask at once", async () => {
  await staff.users.createUser({ username: "Hopper" });
  for (const username of ["Hopper", "hopper", "HOPPER"]) {
    await assert.rejects(staff.users.createUser({ username }), {
      code: Code.AlreadyExists,
      rawMessage: `username ${username} is taken: choose another`,
    });
  }
  const outcomes = await Promise.allSettled(
    ["Turing", "turing", "TURING", "tURING"].map((username) => staff.users.createUser({ username })),
  );
  const codes = outcomes.map((outcome) => (outcome.status === "fulfilled" ? 0 : outcome.reason.code));
  assert.deepEqual(codes.sort(), [0, Code.AlreadyExists, Code.AlreadyExists, Code.AlreadyExists]);
});

test("deleting a user ends its keys and takes them away", async () => {
  const gone = await createUserAndKey(staff, "gone");
  const { users } = latchkey.as(gone.token);
  await users.updateProfile({ bio: "still here" });
  await staff.users.deleteUser({ userId: gone.userId });
  const refusal = await refused(() => users.updateProfile({ bio: "" }));
  assert.equal(refusal.rawMessage, "invalid API key");
  await assert.rejects(staff.users.getUser({ userId: gone.userId }), { code: Code.NotFound });
  await assert.rejects(staff.users.deleteUser({ userId: gone.userId }), { code: Code.NotFound });
  await assert.rejects(staff.keys.getApiKey({ id: gone.apiKeyId }), { code: Code.NotFound });
  // The name is free again, and is another user.
  const again = await staff.users.createUser({ username: "gone" });
  assert.notEqual(again.id, gone.userId);
});

test("the last active staff user cannot be deleted, nor can the last two at once", async () => {
  const own = await startServer();
  try {
    const lastOne = { code: Code.FailedPrecondition, rawMessage: /last active staff user/ };
    await assert.rejects(own.asStaff.users.deleteUser({ userId: adminId }), lastOne);

    const disabled = await createUserAndKey(own.asStaff, "disabled-staff");
    await own.sql`UPDATE users SET is_staff = true, is_active = false WHERE id = ${String(disabled.userId)}`;
    await assert.rejects(own.asStaff.users.deleteUser({ userId: adminId }), lastOne);
    // One that is not active may go.
    await own.asStaff.users.deleteUser({ userId: disabled.userId });

    for (let round = 0; round < 10; round++) {
      const [first] = await own.sql`SELECT id FROM users WHERE is_staff AND is_active`;
      const second = await own.asStaff.users.createUser({ username: `staff-${round}` });
      await own.sql`UPDATE users SET is_staff = true WHERE id = ${String(second.id)}`;
      // Each by a key of its own: the deletion of one must not be what refuses the other's call.
      const deletions = [BigInt(first?.id), second.id].map(async (userId) => {
        const { users } = await clientsOfOwnKey(own, userId);
        await users.getUser({ userId });
        return () => users.deleteUser({ userId });
      });
      const outcomes = await Promise.allSettled((await Promise.all(deletions)).map((start) => start()));
      const codes = outcomes.map((outcome) => (outcome.status === "fulfilled" ? 0 : outcome.reason.code));
      assert.deepEqual(codes.sort(), [0, Code.FailedPrecondition], `round ${round}`);
      const [left] = await own.sql`SELECT count(*)::int AS n FROM users WHERE is_staff AND is_active`;
      assert.equal(left?.n, 1);
    }
  } finally {
    await own.close();
  }
});

test("a staff user is not deleted while the only other one is being disabled", async () => {
  const own = await startServer();
  const operator = await own.sql.reserve();
  try {
    const { id } = await own.asStaff.users.createUser({ username: "other" });
    await own.sql`UPDATE users SET is_staff = true WHERE id = ${String(id)}`;
    await operator`BEGIN`;
    await operator`UPDATE users SET is_active = false WHERE id = ${String(id)}`;
    const deletion = assert.rejects(own.asStaff.users.deleteUser({ userId: adminId }), {
      code: Code.FailedPrecondition,
    });
    const waiting = () => operator`
      SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    // Where nothing waits, the deletion is through and has been answered.
    await Promise.race([deletion, until(waiting, ({ length }) => length > 0)]);
    await operator`COMMIT`;
    await deletion;
  } finally {
    operator.release();
    await own.close();
  }
});

test("a staff user may delete itself where another one is left; its own key is refused from then on", async () => {
  const { userId, token } = await createUserAndKey(staff, "leaving");
  await latchkey.sql`UPDATE users SET is_staff = true WHERE id = ${String(userId)}`;
  const { users } = latchkey.as(token);
  await users.deleteUser({ userId });
  await refused(() => users.deleteUser({ userId }));
});

test("creating, updating and deleting a user are audited: who, whom, from where, and what changed", async () => {
  const requestId = "audited-users";
  const headers = { "x-request-id": requestId };
  const { userId, apiKeyId, token } = await createUserAndKey(staff, "audited");
  await latchkey.as(token).users.updateProfile({ bio: "new" }, { headers });
  await latchkey.as(token).users.updateProfile({ bio: "new" }, { headers });
  await staff.users.deleteUser({ userId }, { headers });
  const events = await latchkey.sql`
    SELECT actor_user_id::int AS actor, actor_api_key_id AS key, action, before, after, host(peer_address) AS peer,
      request_id = ${requestId} AS named
    FROM audit_events WHERE target_user_id = ${String(userId)} AND action LIKE 'user.%' ORDER BY id`;
  const described = { username: "audited", email: "audited@example.com", is_staff: false, is_active: true };
  const byAdmin = { actor: 1, key: null, peer: "127.0.0.1" };
  assert.deepEqual(
    events.map((event) => ({ ...event })),
    [
      { ...byAdmin, action: "user.create", before: null, after: described, named: false },
      {
        actor: Number(userId),
        key: apiKeyId,
        action: "user.update",
        before: { bio: "" },
        after: { bio: "new" },
        peer: "127.0.0.1",
        named: true,
      },
      { ...byAdmin, action: "user.delete", before: described, after: null, named: true },
    ],
  );
});

test("what cannot be audited does not happen", async () => {
  const { sql } = latchkey;
  const { userId, apiKeyId, token } = await createUserAndKey(staff, "unaudited");
  await sql.unsafe(`
    CREATE FUNCTION refuse_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more ink'; END $$;
    CREATE TRIGGER refuse_audit BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_audit()`);
  try {
    const expected = { code: Code.Internal, rawMessage: "internal error" };
    await assert.rejects(staff.users.createUser({ username: "never-made" }), expected);
    await assert.rejects(latchkey.as(token).users.updateProfile({ bio: "never said" }), expected);
    await assert.rejects(staff.users.deleteUser({ userId }), expected);
  } finally {
    await sql`DROP FUNCTION refuse_audit CASCADE`;
  }
  assert.equal(await countUsers("never-made"), 0);
  assert.equal((await staff.users.getUser({ userId })).bio, "");
  assert.equal((await staff.keys.getApiKey({ id: apiKeyId })).apiKey?.status, ApiKeyStatus.ACTIVE);
});

test("ListUsers streams active users in the order of their ids: 100 unless asked, never more than 1,000", async () => {
  const own = await startServer();
  try {
    await own.sql`INSERT INTO users (username, username_key) SELECT 'user' || n, 'user' || n FROM generate_series(3, 1001) n`;
    const [off] =
      await own.sql`UPDATE users SET is_active = false WHERE username = 'user50' RETURNING id::int`;
    const listed = async (limit: number) =>
      (await collect(own.asStaff.users.listUsers({ limit }))).map(({ id }) => Number(id));
    const active = Array.from({ length: 1001 }, (_, n) => n + 1).filter((id) => id !== off?.id);
    for (const [limit, count] of [
      [0, 100],
      [1, 1],
      [99, 99],
      [100, 100],
      [101, 101],
      [1000, 1000],
    ] as const) {
      assert.deepEqual(await listed(limit), active.slice(0, count), `limit ${limit}`);
    }
    await own.sql`UPDATE users SET is_active = true`;
    assert.equal((await listed(1001)).length, 1000);
    assert.equal((await listed(2 ** 31 - 1)).length, 1000);
    await assert.rejects(listed(-1), {
      code: Code.InvalidArgument,
      rawMessage: /limit must not be negative/,
    });
  } finally {
    await own.close();
  }
});
