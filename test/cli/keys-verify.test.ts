/** `latchkey keys verify`: the verdict, and an exit status that a script can go by. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Home, jsonLines, newHome, tableRows } from "../harness/cli.ts";
import { noteSecret } from "../harness/secrets.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";

let server: TestServer;
let home: Home;
let good: { apiKeyId: string; token: string };
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
  good = await createUserAndKey(server.asStaff, "verified");
});
after(() => server.close());

test("a good token is allowed, and the exit status is 0", async () => {
  const { code, stdout, stderr } = await home.latchkey(["keys", "verify"], { input: `${good.token}\n` });
  assert.deepEqual([code, stderr], [0, ""]);
  assert.deepEqual(
    tableRows(stdout).map(({ VERDICT, CODE, USER, KEY }) => [VERDICT, CODE, USER, KEY]),
    [["allowed", "ok", "verified", good.apiKeyId]],
  );
});

test("a refusal is told by code and reason, and by the exit status", async () => {
  const restricted = await server.asStaff.keys.createApiKey({
    userId: 2n,
    name: "r",
    allowedMethods: ["a.B/*"],
    allowedAddresses: ["203.0.113.0/24"],
  });
  const revoked = await server.asStaff.keys.createApiKey({ userId: 2n, name: "v" });
  for (const { token } of [restricted, revoked]) noteSecret(token);
  await server.asStaff.keys.revokeApiKey({ id: revoked.apiKey?.id ?? "" });
  await Promise.all(
    (
      [
        [revoked.token, [], 3, "unauthenticated", "revoked"],
        ["nobody-knows-this", [], 3, "unauthenticated", "malformed"],
        [
          restricted.token,
          ["--method", "a.B/C", "--address", "198.51.100.1"],
          4,
          "permission_denied",
          "address-not-allowed",
        ],
        [
          restricted.token,
          ["--method", "x.Y/Z", "--address", "203.0.113.7"],
          4,
          "permission_denied",
          "method-not-allowed",
        ],
        [restricted.token, ["--method", "a.B/C", "--address", "203.0.113.7"], 0, "ok", ""],
      ] as const
    ).map(async ([token, args, status, code, reason]) => {
      const outcome = await home.latchkey(["keys", "verify", ...args, "--json"], { input: token });
      assert.equal(outcome.code, status, outcome.stderr);
      const [verdict] = jsonLines(outcome.stdout);
      const denialReason = reason === "" ? "UNSPECIFIED" : reason.toUpperCase().replaceAll("-", "_");
      assert.deepEqual([verdict?.code, verdict?.denialReason], [code, `DENIAL_REASON_${denialReason}`]);
      assert.ok(!outcome.stdout.includes(token));
    }),
  );
});

test("many tokens are answered in their order, the status being that of the first refusal", async () => {
  const tokens = Array.from({ length: 130 }, (_, i) => (i === 120 ? "nobody-knows-this" : good.token));
  const outcome = await home.latchkey(["keys", "verify", "--skip-usage", "--json"], {
    input: tokens.join("\n"),
  });
  assert.equal(outcome.code, 3, outcome.stderr);
  const allowed = jsonLines(outcome.stdout).map((verdict) => verdict.allowed);
  assert.equal(allowed.length, 130);
  assert.equal(allowed.indexOf(false), 120);
});

test("no token at all is a wrong use", async () => {
  const { code, stdout, stderr } = await home.latchkey(["keys", "verify"], { input: "\n" });
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /no token came on standard input/);
});
