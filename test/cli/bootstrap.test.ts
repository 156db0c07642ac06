/** `latchkey bootstrap`: output, errors and exit status. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiKeyType } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import { clientsOf, connectTransport, newDirectory, spawnMain, spawnServer } from "../harness/server.ts";

/** A production environment on a database of its own. */
async function production(): Promise<{ DATABASE_URL: string } & Record<string, string>> {
  return {
    NODE_ENV: "production",
    DATABASE_URL: await createTestDatabase(),
    LATCHKEY_DATA_DIR: newDirectory(),
  };
}

const run = (args: string[], env: Record<string, string> = {}) => spawnMain(args, env).exited;

test("bootstrap prints a token, alone, that signs a staff user in to a production server", async () => {
  const env = await production();
  const { code, stdout, stderr } = await run(
    ["bootstrap", "--username", "Ada", "--email", "ada@example.com"],
    env,
  );
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^lk_[0-9A-Za-z]{38}\n$/);
  const token = noteSecret(stdout.trim());
  assert.match(stderr, /^Created the staff user Ada \(id 1\) and the API key [0-9a-f-]{36}\.\n/);
  assert.match(stderr, /shown this once/);
  assert.ok(!stderr.includes(token));

  const server = await spawnServer(env);
  try {
    const clients = clientsOf(connectTransport(server.url, token));
    const user = await clients.users.createUser({ username: "bob" });
    const made = await clients.keys.createApiKey({ userId: user.id, name: "bob's" });
    noteSecret(made.token);
    const ada = await clients.users.getUser({ userId: 1n });
    assert.deepEqual([ada.username, ada.email], ["Ada", "ada@example.com"]);
    const { apiKeys } = await clients.keys.listApiKeys({ userId: 1n });
    assert.deepEqual(
      apiKeys.map(({ type, createdBy, start, expiresAt }) => [type, createdBy, start, expiresAt]),
      [[ApiKeyType.CLI, 0n, token.slice(0, 9), undefined]],
    );
    // While a server runs on it: DATABASE_URL is shared.
    const second = await run(["bootstrap", "--username", "carol"], env);
    assert.equal(second.code, 0, second.stderr);
    await clientsOf(connectTransport(server.url, noteSecret(second.stdout.trim()))).keys.listApiKeys({});
  } finally {
    server.child.kill("SIGTERM");
    await server.exited;
  }
});

test("bootstrap is audited as done by nobody", async () => {
  const env = await production();
  noteSecret((await run(["bootstrap", "--username", "ada"], env)).stdout.trim());
  const sql = openSql(env.DATABASE_URL);
  const events = await sql`
    SELECT action, actor_user_id, actor_api_key_id, target_user_id::int AS target FROM audit_events ORDER BY id`;
  await sql.end();
  const nobody = { actor_user_id: null, actor_api_key_id: null, target: 1 };
  assert.deepEqual(
    events.map((event) => ({ ...event })),
    [
      { action: "user.create", ...nobody },
      { action: "api_key.create", ...nobody },
    ],
  );
});

test("bootstrap with a username that is taken, in whatever case, exits with 2 and makes nothing", async () => {
  const env = await production();
  noteSecret((await run(["bootstrap", "--username", "ada"], env)).stdout.trim());
  for (const username of ["ada", "ADA"]) {
    const { code, stdout, stderr } = await run(["bootstrap", "--username", username], env);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, new RegExp(`there is a user ${username} already: choose another --username`));
  }
  const sql = openSql(env.DATABASE_URL);
  const [row] =
    await sql`SELECT (SELECT count(*) FROM users)::int AS users, (SELECT count(*) FROM api_keys)::int AS keys`;
  await sql.end();
  assert.deepEqual({ ...row }, { users: 1, keys: 1 });
});

test("two bootstraps with one username at once: one makes the user, the other says that there is one", async () => {
  const env = await production();
  const outcomes = await Promise.all([0, 1].map(() => run(["bootstrap", "--username", "ada"], env)));
  const [done, refused] = outcomes.sort((a, b) => Number(a.code) - Number(b.code));
  assert.deepEqual([done?.code, refused?.code], [0, 2]);
  noteSecret(done?.stdout.trim() ?? "");
  assert.match(refused?.stderr ?? "", /there is a user ada already/);
});

for (const [what, args, message] of [
  ["bootstrap without a username", ["bootstrap"], /--username/],
  ["bootstrap with a bad username", ["bootstrap", "--username", "two words"], /username must have/],
  ["bootstrap with a bad email", ["bootstrap", "--username", "ada", "--email", "nonsense"], /email must be/],
  ["bootstrap with an unknown option", ["bootstrap", "--user", "ada"], /--user/],
  [
    "bootstrap with a stray word",
    ["bootstrap", "--username", "ada", "lovelace"],
    /too many arguments.*lovelace/,
  ],
  ["an unknown command", ["frobnicate"], /unknown command 'frobnicate'/],
  ["serve with a stray word", ["serve", "now"], /too many arguments.*now/],
  ["an unknown option", ["--frobnicate"], /--frobnicate/],
] as const) {
  test(`${what} exits with 2, says what is wrong and how it is used`, async () => {
    // A database that cannot be reached: what is wrong with the command is found before.
    const env = { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none", LATCHKEY_DATA_DIR: newDirectory() };
    const { code, stdout, stderr } = await run([...args], env);
    assert.deepEqual([code, stdout], [2, ""], stderr);
    assert.match(stderr, message);
    assert.match(stderr, /Usage: latchkey/);
  });
}

for (const args of [
  ["bootstrap", "--help"],
  ["bootstrap", "-h"],
]) {
  test(`latchkey ${args.join(" ")} prints its usage on standard output, whatever the settings`, async () => {
    const { code, stdout, stderr } = await run(args, { PORT: "nonsense" });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^Usage: latchkey bootstrap \[options\]/);
  });
}
