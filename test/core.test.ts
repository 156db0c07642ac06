/** The main job: a key is created, calls are made with it, the calls are counted and logged. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createUserAndKey, startServer, type TestServer } from "./harness/server.ts";
import { until } from "./harness/until.ts";

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey.close());

test("a key that was created over RPC is counted and logged for each call made with it", async () => {
  const { userId, apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "ada");
  const ada = latchkey.as(token);
  await ada.users.getUser({ userId });
  await ada.users.updateProfile({ bio: "counts" });
  await assert.rejects(ada.users.deleteUser({ userId }), /staff/);

  const key = await until(
    async () => (await latchkey.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey,
    (found) => found?.requestCount === 3n,
  );
  assert.ok(key?.lastUsedAt);
  const { requestLogs } = await latchkey.asStaff.logs.listRequestLogs({ filter: { apiKeyId } });
  assert.deepEqual(
    requestLogs.map((row) => [row.method, row.code, row.userId, row.peerAddress]),
    [
      ["DeleteUser", "permission_denied", userId, "127.0.0.1"],
      ["UpdateProfile", "ok", userId, "127.0.0.1"],
      ["GetUser", "ok", userId, "127.0.0.1"],
    ],
  );
});
