/** The fence on real connections: what is changed anywhere is heard, and silence is noticed. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { GrantChange } from "../../src/auth/grant.ts";
import { connect } from "../../src/db/client.ts";
import { createFence } from "../../src/keys/fence.ts";
import { startDatabaseProxy } from "../faults/proxy.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let databaseUrl: string;
let instances: TestServer[];
before(async () => {
  databaseUrl = await createTestDatabase();
  instances = await Promise.all([
    startServer({ databaseUrl }),
    startServer({ databaseUrl }),
    startServer({ databaseUrl }),
  ]);
});
after(() => Promise.all(instances.map((instance) => instance.close())));

const refused = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );

test("a revoked key is refused by every instance that had it cached", async () => {
  const [first, ...others] = instances as [TestServer, TestServer, TestServer];
  const { apiKeyId, token, userId } = await createUserAndKey(first.asStaff, "everywhere");
  for (const instance of instances) await instance.as(token).users.getUser({ userId });
  await first.asStaff.keys.revokeApiKey({ id: apiKeyId });
  for (const instance of [first, ...others]) {
    const error = await until(
      () => refused(instance.as(token).users.getUser({ userId })),
      (found) => found !== undefined,
    );
    assert.equal(error?.code, Code.Unauthenticated);
    assert.match(error?.rawMessage ?? "", /was revoked at 20\d\d-/);
  }
});

test("a key that an operator revokes in SQL, and a user that is disabled there, are refused", async () => {
  const [first] = instances as [TestServer];
  for (const [name, change] of [
    ["by-sql", (id: string) => first.sql`UPDATE api_keys SET revoked_at = now() WHERE id = ${id}`],
    [
      "disabled-by-sql",
      (id: string) =>
        first.sql`UPDATE users SET is_active = false WHERE id = (SELECT user_id FROM api_keys WHERE id = ${id})`,
    ],
  ] as const) {
    const { apiKeyId, token, userId } = await createUserAndKey(first.asStaff, name);
    await first.as(token).users.getUser({ userId });
    await change(apiKeyId);
    const error = await until(
      () => refused(first.as(token).users.getUser({ userId })),
      (found) => found !== undefined,
    );
    assert.equal(error?.code, Code.Unauthenticated);
  }
});

const socketDirectory = () => new URL(databaseUrl).searchParams.get("host") ?? "";

test("a change that is answered applies on its instance, however late its notification comes", async () => {
  const proxy = await startDatabaseProxy(socketDirectory());
  const instance = await startServer({ databaseUrl, listenDatabaseUrl: proxy.url(databaseUrl) });
  try {
    const { asStaff } = instance;
    const asks = (token: string) => refused(instance.as(token).users.getUser({ userId: 1n }));
    const [revoked, narrowed, disabled] = await Promise.all(
      ["revoked", "narrowed", "disabled"].map((name) => createUserAndKey(asStaff, `${name}-late`)),
    );
    assert.ok(revoked && narrowed && disabled);
    for (const { token } of [revoked, narrowed, disabled]) assert.equal(await asks(token), undefined);
    proxy.answerDelayMs = 200;

    await asStaff.keys.revokeApiKey({ id: revoked.apiKeyId });
    assert.equal((await asks(revoked.token))?.code, Code.Unauthenticated);
    await asStaff.keys.updateApiKey({
      apiKey: { id: narrowed.apiKeyId, allowedMethods: ["health.v1.Health/*"] },
      updateMask: { paths: ["allowed_methods"] },
    });
    assert.equal((await asks(narrowed.token))?.code, Code.PermissionDenied);
    await asStaff.admin.updateUser({
      user: { id: disabled.userId, isActive: false },
      updateMask: { paths: ["is_active"] },
    });
    assert.equal((await asks(disabled.token))?.code, Code.Unauthenticated);
  } finally {
    await instance.close();
    proxy.close();
  }
});

test("a change is answered though its notification never comes, and what is cached is not used then", async () => {
  const proxy = await startDatabaseProxy(socketDirectory());
  const instance = await startServer({
    databaseUrl,
    listenDatabaseUrl: proxy.url(databaseUrl),
    cacheMaxStalenessMs: 400,
  });
  try {
    const { apiKeyId, token, userId } = await createUserAndKey(instance.asStaff, "unheard");
    await instance.as(token).users.getUser({ userId });
    proxy.silence();
    await instance.asStaff.keys.revokeApiKey({ id: apiKeyId });
    const error = await refused(instance.as(token).users.getUser({ userId }));
    assert.equal(error?.code, Code.Unauthenticated);
  } finally {
    await instance.close();
    proxy.close();
  }
});

test("a LISTEN connection that stalls without closing is noticed within maxStalenessMs, and replaced", async () => {
  const proxy = await startDatabaseProxy(socketDirectory());
  const through = proxy.url(databaseUrl);
  const maxStalenessMs = 400;
  const fence = await createFence({
    connectListener: (events) =>
      connect({ url: through }, { max: 1, purpose: "listen", statementTimeoutMs: 0, ...events }),
    heartbeat: connect({ url: databaseUrl }, { max: 1, purpose: "heartbeat", statementTimeoutMs: 1000 }),
    instanceId: "01890a5d-ac96-774b-bcce-b302099a8057",
    maxStalenessMs,
    onError: () => {},
  });
  const sql = openSql(databaseUrl);
  try {
    const changes: GrantChange[] = [];
    fence.onChange((change) => {
      if (change.kind === "unheard") assert.equal(fence.isFresh(), false, "told while it was fresh");
      changes.push(change);
    });
    await until(fence.isFresh, Boolean);
    await sql`SELECT pg_notify('latchkey_changes', 'user:5')`;
    await until(() => changes.length, Boolean);
    assert.deepEqual(changes, [{ kind: "user", userId: 5n }]);

    const stalledAtMs = performance.now();
    proxy.silence();
    // What nobody hears now must not be vouched for.
    await sql`SELECT pg_notify('latchkey_changes', 'user:6')`;
    await until(fence.isFresh, (fresh) => !fresh);
    assert.ok(fence.provenAtMs() <= stalledAtMs + maxStalenessMs);
    const next = await until(
      () => changes[1],
      (change) => change !== undefined,
    );
    assert.deepEqual(next, { kind: "unheard" }, "whoever holds on to a verdict is told");
    await until(fence.isFresh, Boolean);
    assert.deepEqual(changes.at(-1), { kind: "all" }, "after a gap, everything may have changed");
  } finally {
    await fence.close();
    await sql.end();
    proxy.close();
  }
});

test("a LISTEN connection that the database ends is opened again, and everything cached is dropped", async () => {
  const [first] = instances as [TestServer];
  const { apiKeyId, token, userId } = await createUserAndKey(first.asStaff, "cut");
  await first.as(token).users.getUser({ userId });
  await first.sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'latchkey listen'`;
  await first.sql`UPDATE api_keys SET revoked_at = now() WHERE id = ${apiKeyId}`;
  for (const instance of instances) {
    await until(
      () => refused(instance.as(token).users.getUser({ userId })),
      (error) => error?.code === Code.Unauthenticated,
    );
  }
});
