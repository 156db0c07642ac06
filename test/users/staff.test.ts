/** Who is staff: a limited credential makes nobody staff, and the last active staff user stays, whatever is asked at once. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOfOwnKey,
  createUserAndKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

const adminId = 1n;

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey?.close());

let n = 0;
/** A staff user and a key of it, not used yet. */
async function createStaff(server = latchkey) {
  const username = `staff-${n++}`;
  const made = await createUserAndKey(server.asStaff, username);
  await setStaff(server.asStaff, made.userId, true);
  return made;
}

const setStaff = ({ admin }: Clients, id: bigint, isStaff: boolean) =>
  admin.updateUser({ user: { id, isStaff }, updateMask: { paths: ["is_staff"] } });

const setActive = ({ admin }: Clients, id: bigint, isActive: boolean) =>
  admin.updateUser({ user: { id, isActive }, updateMask: { paths: ["is_active"] } });

const outcome = (call: Promise<unknown>) =>
  call.then(
    () => "ok",
    (error: unknown) => ConnectError.from(error),
  );
const codeOf = (call: Promise<unknown>) =>
  outcome(call).then((found) => (found instanceof ConnectError ? Code[found.code] : found));

/** What makes a user staff, or lets one act again; each of a user of its own. */
const grants: Record<string, (clients: Clients) => Promise<() => Promise<unknown>>> = {
  "creating one":
    async ({ admin }) =>
    () =>
      admin.createUser({ username: `granted-${n++}`, isStaff: true }),
  "making one": async (clients) => {
    const { user } = await latchkey.asStaff.admin.createUser({ username: `granted-${n++}` });
    return () => setStaff(clients, user!.id, true);
  },
  "making a disabled one": async (clients) => {
    const { user } = await latchkey.asStaff.admin.createUser({ username: `granted-${n++}` });
    await setActive(latchkey.asStaff, user!.id, false);
    return () => setStaff(clients, user!.id, true);
  },
  "enabling one": async (clients) => {
    const { user } = await latchkey.asStaff.admin.createUser({ username: `granted-${n++}`, isStaff: true });
    await setActive(latchkey.asStaff, user!.id, false);
    return () => setActive(clients, user!.id, true);
  },
};

const limits = {
  "no limit": [{}, "ok"],
  "every method allowed": [{ allowed_methods: ["*"] }, "ok"],
  "every method and others allowed": [{ allowed_methods: ["api.users.*", "*"] }, "ok"],
  "all methods of this service allowed": [{ allowed_methods: ["latchkey.v1.*"] }, "PermissionDenied"],
  "its own address allowed": [{ allowed_addresses: ["127.0.0.0/8"] }, "PermissionDenied"],
  "an expiry": [{ expires_at: new Date(Date.now() + 86_400_000) }, "PermissionDenied"],
} as const;

for (const [limit, [columns, expected]] of Object.entries(limits)) {
  test(`a key with ${limit} makes staff: ${expected}`, async () => {
    const { apiKeyId, token } = await createStaff();
    for (const [column, value] of Object.entries(columns)) {
      await latchkey.sql`UPDATE api_keys SET ${latchkey.sql(column)} = ${value} WHERE id = ${apiKeyId}`;
    }
    const limited = latchkey.as(token);
    for (const [grant, prepare] of Object.entries(grants)) {
      const call = await prepare(limited);
      const found = await outcome(call());
      assert.equal(found instanceof ConnectError ? Code[found.code] : found, expected, grant);
      if (found instanceof ConnectError) {
        assert.equal(
          found.rawMessage,
          "making a user staff needs a credential that is not limited itself: a key without allowed methods, allowed addresses and expiry",
        );
      }
    }
    // What makes nobody staff is not its concern.
    const { user } = await limited.admin.createUser({ username: `plain-${n++}` });
    await setActive(limited, user!.id, false);
    await setActive(limited, user!.id, true);
    const other = await createStaff();
    await setStaff(limited, other.userId, true);
    await setActive(limited, other.userId, false);
    await setStaff(limited, other.userId, false);
    await setActive(limited, other.userId, true);
  });
}

test("a rotated key in its grace period makes nobody staff, though its successor never expires", async () => {
  const { apiKeyId, token } = await createStaff();
  noteSecret((await latchkey.asStaff.keys.rotateApiKey({ id: apiKeyId })).token);
  for (const [grant, prepare] of Object.entries(grants)) {
    const call = await prepare(latchkey.as(token));
    assert.equal(await codeOf(call()), "PermissionDenied", grant);
  }
});

for (const [what, end, expected] of [
  [
    "is revoked",
    (id: string) => latchkey.sql`UPDATE api_keys SET revoked_at = now() WHERE id = ${id}`,
    "Unauthenticated",
  ],
  [
    "expires",
    (id: string) => latchkey.sql`UPDATE api_keys SET expires_at = now() WHERE id = ${id}`,
    "Unauthenticated",
  ],
  ["is deleted", (id: string) => latchkey.sql`DELETE FROM api_keys WHERE id = ${id}`, "Unauthenticated"],
  [
    "becomes limited",
    (id: string) => latchkey.sql`UPDATE api_keys SET allowed_methods = '{a.B/*}' WHERE id = ${id}`,
    "PermissionDenied",
  ],
  [
    "is a user's who is disabled",
    (id: string) =>
      latchkey.sql`UPDATE users SET is_active = false WHERE id = (SELECT user_id FROM api_keys WHERE id = ${id})`,
    "Unauthenticated",
  ],
  [
    "is a user's who is staff no more",
    (id: string) =>
      latchkey.sql`UPDATE users SET is_staff = false WHERE id = (SELECT user_id FROM api_keys WHERE id = ${id})`,
    "PermissionDenied",
  ],
] as const) {
  test(`a key that ${what} while its call waits makes nobody staff`, async () => {
    const { apiKeyId, token } = await createStaff();
    const { user } = await latchkey.asStaff.admin.createUser({ username: `waited-${n++}` });
    const operator = await latchkey.sql.reserve();
    try {
      await operator`BEGIN`;
      await operator`SELECT FROM users WHERE id = ${String(user!.id)} FOR UPDATE`;
      const call = codeOf(setStaff(latchkey.as(token), user!.id, true));
      const waiting = () => operator`
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      await until(waiting, ({ length }) => length > 0);
      await end(apiKeyId);
      await operator`COMMIT`;
      assert.equal(await call, expected);
      assert.equal((await latchkey.asStaff.admin.getUser({ id: user!.id })).user?.isStaff, false);
    } finally {
      operator.release();
    }
  });
}

test("the last active staff user can be neither demoted, disabled nor deleted; one that is not active can", async () => {
  const own = await startServer();
  try {
    const { admin } = own.asStaff;
    const { user } = await admin.createUser({ username: "off", isStaff: true });
    await setActive(own.asStaff, user!.id, false);
    const expected = {
      code: Code.FailedPrecondition,
      rawMessage: "user 1 is the last active staff user: make another one staff first",
    };
    const before = (await admin.getUser({ id: adminId })).user;
    await assert.rejects(setStaff(own.asStaff, adminId, false), expected);
    await assert.rejects(setActive(own.asStaff, adminId, false), expected);
    await assert.rejects(admin.deleteUser({ id: adminId }), expected);
    await assert.rejects(own.asStaff.users.deleteUser({ userId: adminId }), expected);
    assert.deepEqual((await admin.getUser({ id: adminId })).user, before);
    await setStaff(own.asStaff, user!.id, false);
    await admin.deleteUser({ id: user!.id });
  } finally {
    await own.close();
  }
});

test("of two staff users who demote, disable or delete each other at once, one stays", async () => {
  const own = await startServer();
  try {
    let first = await createStaff(own);
    await setActive(own.asStaff, adminId, false);
    const ends = [
      (clients: Clients, id: bigint) => setStaff(clients, id, false),
      (clients: Clients, id: bigint) => setActive(clients, id, false),
      (clients: Clients, id: bigint) => clients.admin.deleteUser({ id }),
    ];
    for (let round = 0; round < 18; round++) {
      const second = await createStaff(own);
      // Both are known before they act, so that both get as far as the database.
      await Promise.all([first, second].map(({ token }) => own.as(token).admin.getUser({ id: adminId })));
      const codes = await Promise.all([
        codeOf(ends[round % 3]!(own.as(first.token), second.userId)),
        codeOf(ends[Math.floor(round / 3) % 3]!(own.as(second.token), first.userId)),
      ]);
      assert.equal(codes.filter((code) => code === "ok").length, 1, `round ${round}: ${codes}`);
      const [refused] = codes.filter((code) => code !== "ok");
      // Whoever comes late may have been ended before its call was looked at.
      assert.match(String(refused), /^(FailedPrecondition|PermissionDenied|Unauthenticated)$/);
      const left = await own.sql`SELECT id FROM users WHERE is_staff AND is_active`;
      assert.equal(left.length, 1);
      if (left[0]?.id === String(second.userId)) first = second;
    }
  } finally {
    await own.close();
  }
});

test("however many staff users are demoted, disabled and deleted at once, one stays and no call fails otherwise", async () => {
  const own = await startServer();
  try {
    for (let round = 0; round < 3; round++) {
      await Promise.all(Array.from({ length: 11 }, () => createStaff(own)));
      const ids = (await own.sql`SELECT id FROM users WHERE is_staff AND is_active ORDER BY id`).map(
        ({ id }) => BigInt(id),
      );
      assert.equal(ids.length, 12);
      // Each by a key of its own: the end of one must not be what refuses another's call.
      const ends = await Promise.all(
        ids.map(async (id, i) => {
          const clients = await clientsOfOwnKey(own, id);
          await clients.admin.getUser({ id });
          return [
            () => setStaff(clients, id, false),
            () => setActive(clients, id, false),
            () => clients.admin.deleteUser({ id }),
            () => clients.users.deleteUser({ userId: id }),
          ][i % 4]!;
        }),
      );
      const codes = await Promise.all(ends.map((end) => codeOf(end())));
      assert.deepEqual(codes.sort(), ["FailedPrecondition", ...Array(11).fill("ok")]);
      assert.equal((await own.sql`SELECT FROM users WHERE is_staff AND is_active`).length, 1);
    }
    const [{ deadlocks } = { deadlocks: undefined }] = await own.sql`
      SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`;
    assert.equal(deadlocks, 0);
  } finally {
    await own.close();
  }
});

test("deleting a user and counting what its keys do lock the counters in one order", async () => {
  const { userId, apiKeyId: first } = await createUserAndKey(latchkey.asStaff, "counting");
  const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({ userId, name: "second" });
  noteSecret(token);
  // The first key's rows now lie behind the second's, where a scan of the whole tables finds them.
  await latchkey.sql`UPDATE api_keys SET name = 'moved' WHERE id = ${first}`;
  await latchkey.sql`UPDATE api_key_usage SET request_count = 1 WHERE api_key_id = ${first}`;
  await latchkey.sql`ANALYZE api_keys, api_key_usage`;
  const counter = await latchkey.sql.reserve();
  try {
    await counter`BEGIN`;
    await counter`SELECT FROM api_key_usage WHERE api_key_id = ${first} FOR NO KEY UPDATE`;
    const deletion = latchkey.asStaff.admin.deleteUser({ id: userId });
    const waiting = () => counter`
      SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await until(waiting, ({ length }) => length > 0);
    await counter`SELECT FROM api_key_usage WHERE api_key_id = ${apiKey!.id} FOR NO KEY UPDATE NOWAIT`;
    await counter`COMMIT`;
    assert.equal((await deletion).endedApiKeyCount, 2);
  } finally {
    counter.release();
  }
});

test("deleting a user with many keys writes their audit events many at a time", async () => {
  const { userId, apiKeyId } = await createUserAndKey(latchkey.asStaff, "many-keys");
  await latchkey.sql`
    WITH made AS (
      INSERT INTO api_keys (id, user_id, name, hash, start, type)
      SELECT gen_random_uuid(), user_id, 'one of many', sha256(n::text::bytea), 'x', 'service'
      FROM api_keys, generate_series(1, 2500) n WHERE id = ${apiKeyId} RETURNING id
    ) INSERT INTO api_key_usage (api_key_id) SELECT id FROM made`;
  assert.equal((await latchkey.asStaff.admin.deleteUser({ id: userId })).endedApiKeyCount, 2501);
  const [events] = await latchkey.sql`
    SELECT count(DISTINCT target_api_key_id)::int AS keys, count(DISTINCT cmin::text)::int AS statements
    FROM audit_events WHERE action = 'api_key.delete' AND target_user_id = ${String(userId)}`;
  assert.deepEqual(events, { keys: 2501, statements: 3 });
});
