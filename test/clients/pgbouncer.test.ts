/** Behind the real PgBouncer in transaction mode, with LISTEN on its own direct address. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../../src/db/client.ts";
import { newHome } from "../harness/cli.ts";
import { pem } from "../harness/pem.ts";
import { startPgBouncer } from "../harness/pgbouncer.ts";
import { createTestDatabase } from "../harness/postgres.ts";
import { createUserAndKey, newDirectory, startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

for (const usageDurability of ["batched", "strict"] as const) {
  test(`${usageDurability}: behind a transaction pooler, keys are made, used, counted exactly and revoked at once`, async (t) => {
    const direct = await createTestDatabase();
    const { url: pooled } = await startPgBouncer(t, direct);
    const server = await startServer({ databaseUrl: pooled, listenDatabaseUrl: direct, usageDurability });
    t.after(() => server.close());
    const { apiKeyId, token, userId } = await createUserAndKey(server.asStaff, "pooled");
    const { users } = server.as(token);
    for (let round = 0; round < 5; round++) {
      await Promise.all(Array.from({ length: 40 }, () => users.getUser({ userId })));
    }
    const key = await until(
      async () => (await server.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey,
      (found) => (found?.requestCount ?? 0n) >= 200n,
    );
    assert.equal(key?.requestCount, 200n);
    await server.asStaff.keys.revokeApiKey({ id: apiKeyId });
    await until(
      () => users.getUser({ userId }).then(() => "served", String),
      (outcome) => outcome.includes("revoked"),
    );
    assert.deepEqual(
      server.logLines.filter(({ level }) => (level as number) >= 40),
      [],
    );
  });
}

test("over TLS statements run, and an idle connection stays", async (t) => {
  const { url } = await startPgBouncer(t, await createTestDatabase(), pem);
  let closed = 0;
  const client = connect(
    { url: `${url}?sslmode=require` },
    { max: 1, purpose: "tls", statementTimeoutMs: 1000, pooled: true, onClose: () => closed++ },
  );
  for (let n = 0; n < 5; n++) {
    await client`SELECT pg_sleep(0.2)`;
    await sleep(600);
  }
  assert.equal(closed, 0);
  await client.end({ timeout: 1 });
});

test("doctor says when LISTEN would go through a transaction pooler, and when it does not", async (t) => {
  const direct = await createTestDatabase();
  const { url: pooled } = await startPgBouncer(t, direct);
  const home = newHome({ DATABASE_URL: pooled, LATCHKEY_DATA_DIR: newDirectory() });
  const wrong = await home.latchkey(["doctor"]);
  assert.equal(wrong.code, 1, wrong.stdout);
  assert.match(wrong.stdout, /^wrong .*\n.*LATCHKEY_LISTEN_DATABASE_URL/m);
  const right = await home.latchkey(["doctor"], { env: { LATCHKEY_LISTEN_DATABASE_URL: direct } });
  assert.equal(right.code, 0, right.stdout);
  assert.match(right.stdout, /^ok +news /m);
  const astray = await home.latchkey(["doctor"], {
    env: { LATCHKEY_LISTEN_DATABASE_URL: await createTestDatabase() },
  });
  assert.equal(astray.code, 1, astray.stdout);
  assert.match(astray.stdout, /^wrong +news .*not heard.*\n.*LATCHKEY_LISTEN_DATABASE_URL/m);
});
