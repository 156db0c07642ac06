/** Whoever guesses tokens at the sign-in learns and costs no more than anywhere else. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createToken } from "../../src/auth/token.ts";
import { noteSecret } from "../harness/secrets.ts";
import { clientsOf, startServer, type TestServer } from "../harness/server.ts";
import { lookupsSeen, watchStatements } from "../harness/statements-seen.ts";
import { until } from "../harness/until.ts";
import { createKeyWorld, type KeyWorld } from "../keys/world.ts";
import { openBrowser } from "./browser.ts";

let world: KeyWorld;
let latchkey: TestServer;
before(async () => {
  // However busy the machine is, what was found is remembered.
  world = await createKeyWorld({ cacheMaxStalenessMs: 60_000 });
  latchkey = world.latchkey;
  await watchStatements(latchkey.sql);
});
after(() => world.close());

/** Statements that looked keys up since the last count. */
async function lookUps(): Promise<number> {
  const lookups = await lookupsSeen(latchkey.sql);
  await watchStatements(latchkey.sql);
  return lookups;
}

test("tokens that nobody has are looked up many at a time, and once", async () => {
  const guesses = Array.from({ length: 400 }, () => noteSecret(createToken("lk")));
  const { sessions } = clientsOf(createGrpcTransport({ baseUrl: latchkey.url }));
  const guess = (token: string) =>
    sessions.createSession({ token }).then(
      () => "let in",
      (error: unknown) => ConnectError.from(error).rawMessage,
    );
  const guessAll = async () => {
    assert.deepEqual(new Set(await Promise.all(guesses.map(guess))), new Set(["invalid API key"]));
  };
  await lookUps();
  await guessAll();
  const first = await lookUps();
  assert.ok(first > 0 && first <= guesses.length / 2, `${first} statements for ${guesses.length} guesses`);
  await guessAll();
  assert.equal(await lookUps(), 0);
});

test("what is no token is refused without a look, and told as an unknown one is", async () => {
  const unknown = await openBrowser(latchkey.url).signIn(noteSecret(createToken("lk")));
  await lookUps();
  for (const token of [
    "nonsense",
    "lk_short",
    `${createToken("lk").slice(0, -1)}!`,
    "sk_test_0123456789abcdeg",
  ]) {
    const answer = await openBrowser(latchkey.url).signIn(noteSecret(token));
    assert.deepEqual(
      [answer.status, answer.json.message, answer.refusal],
      [unknown.status, unknown.json.message, unknown.refusal],
    );
  }
  assert.equal(await lookUps(), 0);
  for (const token of ["", "x".repeat(513)]) {
    assert.equal((await openBrowser(latchkey.url).signIn(token)).refusal, "invalid_argument");
  }
});

test("a sign-in that is refused says why, and the log has whose token it was", async () => {
  const revoked = await world.newKey();
  await world.staff.keys.revokeApiKey({ id: revoked.id });
  const expired = await world.newKey();
  await world.sql`UPDATE api_keys SET expires_at = now() - interval '1 hour' WHERE id = ${expired.id}`;
  const disabled = await world.newKey();
  await world.staff.admin.updateUser({
    user: { id: disabled.key.userId, isActive: false },
    updateMask: { paths: ["is_active"] },
  });
  const elsewhere = await world.newKey({ allowedAddresses: ["203.0.113.0/24"] });
  for (const [key, code, reason] of [
    [revoked, "unauthenticated", "REVOKED"],
    [expired, "unauthenticated", "EXPIRED"],
    [disabled, "unauthenticated", "USER_DISABLED"],
    [elsewhere, "permission_denied", "ADDRESS_NOT_ALLOWED"],
  ] as const) {
    const answer = await openBrowser(latchkey.url).signIn(key.token);
    assert.equal(answer.refusal, `${code} ${reason}`);
    const [row] = await until(
      () => world.sql<
        { code: number; denial_reason: string; credential_kind: string; request_count: string }[]
      >`
        SELECT code, denial_reason, credential_kind, request_count
        FROM request_logs JOIN api_key_usage USING (api_key_id)
        WHERE api_key_id = ${key.id} AND method = 'CreateSession'`,
      (rows) => rows.length === 1,
    );
    assert.deepEqual(
      [row?.denial_reason, row?.credential_kind, row?.request_count],
      [reason, "api_key", "0"],
    );
  }
});

test("nobody signs in where authentication is switched off", async () => {
  const server = await startServer({ databaseUrl: latchkey.databaseUrl, authEnabled: false });
  try {
    const { token } = await world.newKey();
    const answer = await openBrowser(server.url).signIn(token);
    assert.equal(answer.refusal, "failed_precondition");
    assert.match(answer.json.message, /authentication is switched off/);
  } finally {
    await server.close();
  }
});

test("while no verdict can be had, a sign-in is unavailable and never refused", async () => {
  const server = await startServer({ databaseUrl: latchkey.databaseUrl });
  const { token } = await world.newKey();
  try {
    await world.sql.begin(async (tx) => {
      await tx`LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE`;
      const answer = await openBrowser(server.url).signIn(token);
      assert.equal(answer.refusal, "unavailable UNAVAILABLE");
    });
    const answer = await openBrowser(server.url).signIn(token);
    assert.equal(answer.status, 200);
  } finally {
    await server.close();
  }
});
