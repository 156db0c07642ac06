/** Disabling a user signs it out everywhere at once; enabling lets it in again. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let here: TestServer;
let there: TestServer;
before(async () => {
  // Nothing but a notification ends a stream or a cached key while the test waits: it gives up after 20 s.
  const options = { cacheMaxStalenessMs: 60_000 };
  here = await startServer(options);
  there = await startServer({ ...options, databaseUrl: here.databaseUrl });
});
after(async () => {
  await there?.close();
  await here?.close();
});

const setActive = (server: TestServer, id: bigint, isActive: boolean) =>
  server.asStaff.admin.updateUser({ user: { id, isActive }, updateMask: { paths: ["is_active"] } });

/** Opens a stream that ends only when its client or its server says so. */
async function openStream(server: TestServer, token: string, signal: AbortSignal) {
  const closed = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  async function* queries() {
    yield { messageRequest: { case: "listServices" as const, value: "" } };
    await closed;
  }
  const transport = createGrpcTransport({ baseUrl: server.url });
  const answers = createClient(ServerReflection, transport)
    .serverReflectionInfo(queries(), { signal, headers: { "x-api-key": token } })
    [Symbol.asyncIterator]();
  await answers.next();
  return answers;
}

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => "ok",
    (error: unknown) => Code[ConnectError.from(error).code],
  );

test("disabling a user on one instance ends its keys and its open streams on every instance, and says how many keys", async () => {
  const { userId, apiKeyId, token } = await createUserAndKey(here.asStaff, "ada");
  const second = await here.asStaff.keys.createApiKey({ userId, name: "second" });
  const revoked = await here.asStaff.keys.createApiKey({ userId, name: "revoked" });
  const expired = await here.asStaff.keys.createApiKey({ userId, name: "expired" });
  for (const key of [second, revoked, expired]) noteSecret(key.token);
  await here.asStaff.keys.revokeApiKey({ id: revoked.apiKey!.id });
  await here.sql`UPDATE api_keys SET expires_at = now() WHERE id = ${expired.apiKey!.id}`;

  const stop = new AbortController();
  const streams = await Promise.all([
    openStream(here, token, stop.signal),
    openStream(there, token, stop.signal),
    openStream(there, second.token, stop.signal),
  ]);
  const ends: string[] = [];
  for (const stream of streams) codeOf(stream.next()).then((code) => ends.push(code));
  const callers = [here.as(token), there.as(token), here.as(second.token), there.as(second.token)];
  for (const { users } of callers) await users.updateProfile({ bio: "in" });

  const answer = await setActive(here, userId, false);
  assert.deepEqual([answer.user?.isActive, answer.endedApiKeyCount], [false, 2]);
  await until(
    () => ends.length,
    (count) => count === streams.length,
  );
  assert.deepEqual(ends, Array(3).fill("Unauthenticated"));
  for (const { users } of callers) {
    const refusal = await until(
      () => users.updateProfile({ bio: "out" }).then(() => undefined, ConnectError.from),
      (found) => found !== undefined,
    );
    assert.deepEqual(
      [refusal?.code, refusal?.rawMessage],
      [Code.Unauthenticated, "the user of this API key is disabled"],
    );
  }
  // Neither does a new stream begin.
  assert.equal(
    await codeOf(openStream(there, token, stop.signal).then((stream) => stream.next())),
    "Unauthenticated",
  );

  // Disabled already: nothing ends by it.
  assert.equal((await setActive(there, userId, false)).endedApiKeyCount, 0);
  const changed = await there.asStaff.admin.updateUser({
    user: { id: userId, isActive: false, bio: "on leave" },
    updateMask: { paths: ["bio", "is_active"] },
  });
  assert.equal(changed.endedApiKeyCount, 0);
  // The keys themselves are as they were.
  assert.equal((await there.asStaff.admin.getUser({ id: userId })).user?.activeApiKeyCount, 2);
  assert.equal((await here.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey?.revokedAt, undefined);

  assert.equal((await setActive(there, userId, true)).endedApiKeyCount, 0);
  for (const { users } of callers) {
    await until(
      () => codeOf(users.updateProfile({ bio: "in again" })),
      (code) => code === "ok",
    );
  }
  assert.equal(await codeOf(here.as(revoked.token).users.getUser({ userId })), "Unauthenticated");
  stop.abort();
});

test("demoting a staff user takes its rights on every instance, and leaves its keys", async () => {
  const { userId, token } = await createUserAndKey(here.asStaff, "bob");
  const { admin } = here.asStaff;
  const setStaff = (isStaff: boolean) =>
    admin.updateUser({ user: { id: userId, isStaff }, updateMask: { paths: ["is_staff"] } });
  await setStaff(true);
  for (const server of [here, there]) await server.as(token).admin.getUser({ id: userId });
  assert.equal((await setStaff(false)).endedApiKeyCount, 0);
  for (const server of [here, there]) {
    await until(
      () => codeOf(server.as(token).admin.getUser({ id: userId })),
      (code) => code === "PermissionDenied",
    );
    await server.as(token).users.updateProfile({ bio: "still a user" });
  }
});
