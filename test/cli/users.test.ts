/** `latchkey users`: standard output, standard error and exit status, against a real server. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Home, jsonLines, newHome, tableRows } from "../harness/cli.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";

let server: TestServer;
let home: Home;
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
});
after(() => server.close());

test("users create, show and update print the user as it is", async () => {
  const made = await home.latchkey([
    "users",
    "create",
    "--username",
    "ada",
    "--email",
    "ada@example.com",
    "--staff",
  ]);
  assert.deepEqual([made.code, made.stderr], [0, ""]);
  assert.match(made.stdout, /^id +\d+\nusername +ada\nemail +ada@example\.com\nstaff +yes\nstatus +active\n/);
  const shown = await home.latchkey(["users", "show", "ADA", "--json"]);
  const [user] = jsonLines(shown.stdout);
  assert.deepEqual([user?.username, user?.isStaff, user?.bio], ["ada", true, ""]);
  const changed = await home.latchkey([
    ...["users", "update", "ada", "--bio", "Counts.", "--no-staff", "--email", "", "--json"],
  ]);
  const [now] = jsonLines(changed.stdout);
  assert.deepEqual([now?.email, now?.bio, now?.isStaff, now?.isActive], ["", "Counts.", false, true]);
});

test("users list filters, and shows how many active keys each has", async () => {
  await createUserAndKey(server.asStaff, "listed");
  const { code, stdout, stderr } = await home.latchkey(["users", "list", "--search", "listed", "--no-staff"]);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.deepEqual(
    tableRows(stdout).map(({ USERNAME, STAFF, STATUS, KEYS }) => [USERNAME, STAFF, STATUS, KEYS]),
    [["listed", "no", "active", "1"]],
  );
  const staff = await home.latchkey(["users", "list", "--staff", "--no-disabled", "--limit", "1", "--json"]);
  assert.deepEqual(
    jsonLines(staff.stdout).map(({ username }) => username),
    ["admin"],
  );
});

test("a user that is disabled is signed out until it is enabled again", async () => {
  const { token, userId } = await createUserAndKey(server.asStaff, "switched");
  const off = await home.latchkey(["users", "disable", "switched"]);
  assert.deepEqual([off.code, off.stderr], [0, "1 active keys are refused from now on.\n"]);
  assert.match(off.stdout, /^status +disabled$/m);
  const disabled = await home.latchkey(["users", "list", "--disabled"]);
  assert.deepEqual(
    tableRows(disabled.stdout).map(({ USERNAME }) => USERNAME),
    ["switched"],
  );
  const refused = await home.latchkey(["keys", "list"], { env: { LATCHKEY_TOKEN: token } });
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /disabled/);
  const on = await home.latchkey(["users", "enable", String(userId), "--json"]);
  assert.deepEqual([on.code, on.stderr, jsonLines(on.stdout)[0]?.isActive], [0, "", true]);
  assert.equal((await home.latchkey(["keys", "list"], { env: { LATCHKEY_TOKEN: token } })).code, 0);
});

test("users delete asks first, and then deletes the user and its keys", async () => {
  await createUserAndKey(server.asStaff, "gone");
  const asked = await home.latchkey(["users", "delete", "gone"]);
  assert.deepEqual([asked.code, asked.stdout], [2, ""]);
  assert.match(asked.stderr, /Delete the user gone \(\d+\) and its 1 active keys for good\? .*--yes/);
  assert.equal((await home.latchkey(["users", "show", "gone"])).code, 0);
  const done = await home.latchkey(["users", "delete", "gone", "--yes"]);
  assert.deepEqual([done.code, done.stdout, done.stderr], [0, "deleted gone and 1 active keys\n", ""]);
  const missing = await home.latchkey(["users", "delete", "gone", "--yes", "--json"]);
  assert.deepEqual([missing.code, missing.stdout], [5, ""]);
});

test("what cannot be done is told with the exit status of its kind", async () => {
  const { token } = await createUserAndKey(server.asStaff, "plain");
  await Promise.all(
    (
      [
        [["users", "list"], 4, /staff/, { env: { LATCHKEY_TOKEN: token } }],
        [["users", "create", "--username", "plain"], 1, /plain/],
        [["users", "create", "--username", "two words"], 2, /username must have/],
        [["users", "create"], 2, /--username/],
        [["users", "disable", "admin"], 1, /last active staff user/],
        [["users", "show", "4711"], 5, /not found/],
        [["users", "update", "plain"], 2, /nothing is to be changed/],
      ] as const
    ).map(async ([args, code, message, options]) => {
      const outcome = await home.latchkey([...args], options);
      assert.deepEqual([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
      assert.match(outcome.stderr, message);
    }),
  );
});
