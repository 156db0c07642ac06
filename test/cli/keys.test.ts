/** `latchkey keys`: standard output, standard error and exit status, against a real server. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { hashToken } from "../../src/auth/token.ts";
import { ApiKeyStatus, RevocationReason } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { type Home, jsonLines, newHome, tableRows } from "../harness/cli.ts";
import { noteSecret } from "../harness/secrets.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { tokenPattern } from "../harness/token-pattern.ts";

let server: TestServer;
let home: Home;
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
});
after(() => server.close());

const oneToken = new RegExp(`^${tokenPattern("lk").source}\n$`);

async function makeKey(name: string): Promise<{ id: string; token: string }> {
  const { apiKey, token } = await server.asStaff.keys.createApiKey({ userId: 2n, name });
  return { id: apiKey?.id ?? "", token: noteSecret(token) };
}

async function readKey(id: string) {
  const { apiKey } = await server.asStaff.keys.getApiKey({ id });
  assert.ok(apiKey);
  return apiKey;
}

test("keys create prints the token alone, and what it is on standard error", async () => {
  const made = await home.latchkey([
    ...["keys", "create", "--user", "example", "--name", "invoices", "--type", "webhook"],
    ...["--expires", "90d", "--allowed-methods", "api.users.*,billing.v1.InvoiceService/Pay"],
    ...[
      "--allowed-addresses",
      "203.0.113.0/24",
      "--allowed-addresses",
      "2001:db8::/32",
      "--description",
      "of a test",
    ],
  ]);
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, oneToken);
  const token = noteSecret(made.stdout.trim());
  assert.match(
    made.stderr,
    /^Created the key invoices \(lk_\w{6}, [0-9a-f-]{36}\) of user 2\. It expires at /,
  );
  assert.ok(!made.stderr.includes(token));
  const [, id = ""] = made.stderr.match(/, ([0-9a-f-]{36})\)/) ?? [];
  const key = await readKey(id);
  assert.deepEqual(key.allowedMethods, ["api.users.*", "billing.v1.InvoiceService/Pay"]);
  assert.deepEqual(key.allowedAddresses, ["203.0.113.0/24", "2001:db8::/32"]);
  assert.equal(key.description, "of a test");
  const days = (timestampDate(key.expiresAt!).getTime() - Date.now()) / 86_400_000;
  assert.ok(days > 89.9 && days <= 90, String(days));
});

test("keys create without a user makes a key of one's own", async () => {
  const { token, userId } = await createUserAndKey(server.asStaff, "own");
  const { code, stdout, stderr } = await home.latchkey(["keys", "create", "--name", "mine"], {
    env: { LATCHKEY_TOKEN: token },
  });
  assert.equal(code, 0, stderr);
  noteSecret(stdout.trim());
  const { apiKeys } = await server.asStaff.keys.listApiKeys({ userId });
  assert.deepEqual(apiKeys.map(({ name }) => name).sort(), ["key of own", "mine"]);
});

test("keys create --json prints the key and its token as one object", async () => {
  const { code, stdout, stderr } = await home.latchkey([
    "keys",
    "create",
    "--user",
    "2",
    "--name",
    "j",
    "--json",
  ]);
  assert.deepEqual([code, stderr], [0, ""]);
  const [{ apiKey, token } = {}, ...others] = jsonLines(stdout);
  assert.equal(others.length, 0);
  assert.match(noteSecret(String(token)), tokenPattern("lk"));
  assert.equal((apiKey as { name: string }).name, "j");
});

test("keys create that is sent again makes no second key, and fails for want of a token", async () => {
  const args = ["keys", "create", "--user", "2", "--name", "again", "--request-id", "of-a-test"];
  const first = await home.latchkey(args);
  assert.equal(first.code, 0, first.stderr);
  noteSecret(first.stdout.trim());
  const second = await home.latchkey(args);
  assert.deepEqual([second.code, second.stdout], [1, ""]);
  assert.match(second.stderr, /^latchkey: .*token.*: key [0-9a-f-]{36}$/m);
});

test("what the server refuses is told with the exit status of its kind", async () => {
  const { token } = await createUserAndKey(server.asStaff, "refused");
  const as = { env: { LATCHKEY_TOKEN: token } };
  const unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
  const cases = [
    [["keys", "create", "--name", "", "--user", "2"], 2, /name must have 1 to 100 characters/],
    [["keys", "create", "--name", "x", "--user", "nobody"], 5, /there is no user nobody/],
    [["keys", "create", "--name", "x", "--user", "2", "--expires", "2020-01-01"], 2, /in the future/],
    [["keys", "show", unknown], 5, /not found/],
    [["keys", "show", "x"], 2, /must be a UUID/],
    [["keys", "create", "--name", "x", "--user", "1"], 4, /\w/, as],
    [["keys", "list", "--user", "1"], 4, /\w/, as],
    [["keys", "list"], 3, /invalid API key .*latchkey login/, { env: { LATCHKEY_TOKEN: "lk_nobody_knows" } }],
    [
      ["keys", "list", "--server", "http://127.0.0.1:1"],
      6,
      /does not answer \(ECONNREFUSED\).*latchkey serve/,
    ],
  ] as const;
  await Promise.all(
    cases.map(async ([args, code, message, options]) => {
      const { stdout, stderr, ...outcome } = await home.latchkey([...args], options);
      assert.deepEqual([outcome.code, stdout], [code, ""], stderr);
      assert.match(stderr, message);
      assert.match(stderr, /^latchkey: .*\n$/, "one line");
    }),
  );
});

test("what is given wrongly is told before anything is sent", async () => {
  const cases = [
    [["keys", "create"], /--name/],
    [["keys", "create", "--name", "x", "--expires", "soon"], /90d, 2027-01-01, .* or never/],
    [["keys", "create", "--name", "x", "--expires", "2027-02-30"], /no such day/],
    [["keys", "create", "--name", "x", "--type", "toy"], /service, cli, webhook/],
    [["keys", "create", "--name", "x", "--colour", "red"], /--colour/],
    [["keys", "list", "--limit", "-1"], /--limit/],
    [["keys", "update", "x"], /nothing is to be changed/],
    [["keys", "revoke"], /ids of keys, or --all-of/],
    [["keys", "revoke", "x", "--all-of", "2"], /ids of keys, or --all-of/],
    [["keys", "revoke", "x", "--keep-own"], /--keep-own goes with --all-of/],
    [["keys", "shew", "x"], /unknown command 'shew'\n\(Did you mean show\?\)/],
    [["keys"], /latchkey keys needs a command/],
  ] as const;
  const env = { LATCHKEY_SERVER: "http://127.0.0.1:1" };
  await Promise.all(
    cases.map(async ([args, message]) => {
      const { code, stdout, stderr } = await home.latchkey([...args], { env });
      assert.deepEqual([code, stdout], [2, ""], stderr);
      assert.match(stderr, message);
      assert.match(stderr, /Usage: latchkey keys/);
    }),
  );
});

test("keys list shows a table for people and an object a line for programs", async () => {
  const { userId } = await createUserAndKey(server.asStaff, "listed");
  const args = [
    "keys",
    "list",
    "--user",
    "listed",
    "--status",
    "active",
    "--type",
    "service",
    "--search",
    "key of",
  ];
  const people = await home.latchkey(args);
  assert.deepEqual([people.code, people.stderr], [0, ""]);
  const [row, ...others] = tableRows(people.stdout);
  assert.equal(others.length, 0);
  assert.deepEqual(
    [row?.USER, row?.NAME, row?.TYPE, row?.STATUS, row?.EXPIRES, row?.["LAST USED"], row?.REQUESTS],
    ["listed", "key of listed", "service", "active", "never", "never", "0"],
  );
  const programs = await home.latchkey([...args, "--json"]);
  const [key] = jsonLines(programs.stdout);
  assert.deepEqual([key?.id, key?.userId, key?.status], [row?.ID, String(userId), "API_KEY_STATUS_ACTIVE"]);
  const none = await home.latchkey(["keys", "list", "--user", "listed", "--status", "revoked"]);
  assert.match(none.stdout, /^ID .* REQUESTS\n$/);
});

test("keys list says what it leaves out, and goes through all pages when asked", async () => {
  const { userId } = await createUserAndKey(server.asStaff, "many");
  for (let i = 0; i < 4; i++)
    noteSecret((await server.asStaff.keys.createApiKey({ userId, name: `n${i}` })).token);
  const some = await home.latchkey(["keys", "list", "--user", "many", "--limit", "3"]);
  assert.equal(tableRows(some.stdout).length, 3);
  assert.match(some.stderr, /There are more: --limit 0 shows all/);
  const all = await home.latchkey(["keys", "list", "--user", "many", "--limit", "0", "--json"]);
  assert.deepEqual([jsonLines(all.stdout).length, all.stderr], [5, ""]);
});

test("keys list finds what to tidy up", async () => {
  const { userId } = await createUserAndKey(server.asStaff, "tidy");
  const now = BigInt(Math.floor(Date.now() / 1000));
  const ends = { userId, name: "ends soon", expiresAt: { seconds: now + 3n * 86_400n } };
  noteSecret((await server.asStaff.keys.createApiKey(ends)).token);
  const hash = hashToken(noteSecret("a-token-of-another-system"));
  const past = { seconds: now - 40n * 86_400n };
  const imported = { userId, name: "long unused", hash, createdAt: past, lastUsedAt: past };
  await server.asStaff.keys.importApiKeys({ apiKeys: [imported] });
  const ending = await home.latchkey(["keys", "list", "--user", "tidy", "--expires-within", "1w"]);
  assert.deepEqual(
    tableRows(ending.stdout).map(({ NAME }) => NAME),
    ["ends soon"],
  );
  const unused = await home.latchkey(["keys", "list", "--user", "tidy", "--unused-for", "30d"]);
  assert.deepEqual(
    tableRows(unused.stdout).map(({ NAME }) => NAME),
    ["long unused"],
  );
});

test("keys show prints all of a key but its token", async () => {
  const { id, token } = await makeKey("shown");
  const people = await home.latchkey(["keys", "show", id]);
  assert.deepEqual([people.code, people.stderr], [0, ""]);
  assert.match(people.stdout, new RegExp(`^id +${id}\nuser +example \\(2\\)\nname +shown\n`));
  assert.match(people.stdout, /^allowed methods +all that its user may call$/m);
  assert.match(people.stdout, /^expires +never$/m);
  assert.ok(!people.stdout.includes(token));
  const programs = await home.latchkey(["keys", "show", id, "--json"]);
  const [key] = jsonLines(programs.stdout);
  assert.deepEqual([key?.name, key?.canVerify, key?.allowedMethods], ["shown", false, []]);
});

test("keys update changes what is given and nothing else", async () => {
  const { id } = await makeKey("before");
  const first = await home.latchkey([
    ...[
      "keys",
      "update",
      id,
      "--name",
      "after",
      "--expires",
      "2100-01-01",
      "--allowed-methods",
      "api.users.*",
    ],
    ...["--can-verify", "--json"],
  ]);
  assert.equal(first.code, 0, first.stderr);
  const [key] = jsonLines(first.stdout);
  assert.deepEqual(
    [key?.name, key?.expiresAt, key?.allowedMethods, key?.canVerify, key?.type],
    ["after", "2100-01-01T00:00:00Z", ["api.users.*"], true, "API_KEY_TYPE_SERVICE"],
  );
  const second = await home.latchkey([
    ...["keys", "update", id, "--expires", "never", "--allowed-methods", "", "--no-can-verify"],
  ]);
  assert.match(second.stdout, /^can verify +no$/m);
  const { name, expiresAt, allowedMethods, canVerify } = await readKey(id);
  assert.deepEqual([name, expiresAt, allowedMethods, canVerify], ["after", undefined, [], false]);
});

test("keys rotate prints the new token alone, and says when the old one ends", async () => {
  const { id, token } = await makeKey("rotated");
  const rotated = await home.latchkey(["keys", "rotate", id, "--grace", "1h30m"]);
  assert.equal(rotated.code, 0, rotated.stderr);
  assert.match(rotated.stdout, oneToken);
  assert.notEqual(noteSecret(rotated.stdout.trim()), token);
  assert.match(rotated.stderr, /The old one, rotated \(lk_\w{6}, .*\), ends at 20\d\d-/);
  const old = await readKey(id);
  const minutes = (timestampDate(old.expiresAt!).getTime() - Date.now()) / 60_000;
  assert.ok(minutes > 88 && minutes <= 90, String(minutes));
  const again = await home.latchkey(["keys", "rotate", id]);
  assert.deepEqual([again.code, again.stdout], [1, ""]);
});

test("a rotation that ends the old token at once, and a revocation, are not done unasked", async () => {
  const { id } = await makeKey("asked");
  for (const args of [
    ["keys", "rotate", id, "--grace", "0s"],
    ["keys", "revoke", id],
    ["keys", "revoke", "--all-of", "2"],
  ]) {
    const { code, stdout, stderr } = await home.latchkey(args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /\? Nobody can be asked here: give --yes to do it$/m);
  }
  const { status, rotatedTo } = await readKey(id);
  assert.deepEqual([status, rotatedTo], [ApiKeyStatus.ACTIVE, ""]);
});

test("keys revoke ends keys for good", async () => {
  const keys = [await makeKey("one"), await makeKey("two")];
  const ids = keys.map(({ id }) => id);
  const args = ["keys", "revoke", ...ids, "--reason", "compromised", "--note", "seen in a log", "--yes"];
  const { code, stdout, stderr } = await home.latchkey(args);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.equal(stdout, ids.map((id) => `revoked ${id}\n`).join(""));
  for (const id of ids) {
    const { status, revocationReason, revocationNote } = await readKey(id);
    assert.deepEqual(
      [status, revocationReason, revocationNote],
      [ApiKeyStatus.REVOKED, RevocationReason.COMPROMISED, "seen in a log"],
    );
  }
  const again = await home.latchkey(["keys", "revoke", ids[0] ?? "", "--yes", "--json"]);
  assert.equal(jsonLines(again.stdout)[0]?.status, "API_KEY_STATUS_REVOKED");
  const missing = await home.latchkey(["keys", "revoke", "01890a5d-ac96-774b-bcce-b302099a8057", "--yes"]);
  assert.equal(missing.code, 5, missing.stderr);
});

test("keys revoke --all-of ends every key of a user, but the own one where asked", async () => {
  const { token, userId, apiKeyId } = await createUserAndKey(server.asStaff, "ended");
  noteSecret((await server.asStaff.keys.createApiKey({ userId, name: "other" })).token);
  const kept = await home.latchkey(["keys", "revoke", "--all-of", String(userId), "--keep-own", "--yes"], {
    env: { LATCHKEY_TOKEN: token },
  });
  assert.deepEqual([kept.code, kept.stdout], [0, "revoked 1 keys\n"], kept.stderr);
  assert.equal((await readKey(apiKeyId)).status, ApiKeyStatus.ACTIVE);
  const all = await home.latchkey(["keys", "revoke", "--all-of", "ended", "--yes", "--json"]);
  assert.deepEqual(jsonLines(all.stdout), [{ revokedCount: 1 }]);
});
