/** Exact counts, whatever happens to the servers that count. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createTestDatabase } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  newDirectory,
  secretKey,
  spawnServer,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

/** Looks on: makes users and keys, and reads what is in the database. */
let onlooker: TestServer;
let databaseUrl: string;
before(async () => {
  databaseUrl = await createTestDatabase();
  onlooker = await startServer({ databaseUrl });
});
after(() => onlooker.close());

const spawn = (env: Record<string, string> = {}) =>
  spawnServer({
    DATABASE_URL: databaseUrl,
    LATCHKEY_SECRET_KEY: noteSecret(secretKey),
    LATCHKEY_DATA_DIR: newDirectory(),
    ...env,
  });

/** What is counted of a key, and the rows that are there of it. */
async function counted(apiKeyId: string): Promise<{ count: number; rows: number; rollups: number }> {
  const [found] = await onlooker.sql`
    SELECT request_count::int AS count,
      (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId}) AS rows,
      (SELECT coalesce(sum(requests), 0)::int FROM key_rollups WHERE api_key_id = ${apiKeyId} AND period_s = 60) AS rollups
    FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
  return found as unknown as { count: number; rows: number; rollups: number };
}

test("200 concurrent calls with one key over two server processes on one database count exactly 200", async () => {
  const { apiKeyId, token, userId } = await createUserAndKey(onlooker.asStaff, "two-processes");
  const servers = await Promise.all([spawn(), spawn()]);
  try {
    const clients = servers.map(({ url }) => clientsOf(connectTransport(url, token)));
    await Promise.all(Array.from({ length: 200 }, (_, i) => clients[i % 2]?.users.getUser({ userId })));
    const found = await until(
      () => counted(apiKeyId),
      ({ count }) => count >= 200,
    );
    assert.deepEqual(found, { count: 200, rows: 200, rollups: 200 });
  } finally {
    for (const { child } of servers) child.kill("SIGTERM");
    await Promise.all(servers.map(({ exited }) => exited));
  }
  assert.equal((await counted(apiKeyId)).count, 200);
});

/** Calls again and again on several lanes until the server is gone. Returns how many calls were answered. */
function keepCalling(url: string, token: string, userId: bigint) {
  const { users } = clientsOf(connectTransport(url, token));
  let answered = 0;
  let stop = false;
  const lane = async () => {
    while (!stop) {
      try {
        await users.getUser({ userId });
        answered++;
      } catch {
        return;
      }
    }
  };
  const lanes = Promise.all(Array.from({ length: 20 }, lane));
  return {
    get answered() {
      return answered;
    },
    async finish() {
      await lanes;
      return answered;
    },
    stop() {
      stop = true;
    },
  };
}

test("strict: after kill -9, every call that was answered is counted", async () => {
  const { apiKeyId, token, userId } = await createUserAndKey(onlooker.asStaff, "killed");
  const { url, child, exited } = await spawn({ LATCHKEY_USAGE_DURABILITY: "strict" });
  const calls = keepCalling(url, token, userId);
  await until(
    () => calls.answered,
    (answered) => answered >= 300,
  );
  child.kill("SIGKILL");
  await exited;
  const answered = await calls.finish();
  // What was being committed as the process died may be counted though nobody was answered: at most a call a lane.
  const { count, rows, rollups } = await until(
    () => counted(apiKeyId),
    (found) => found.count >= answered,
  );
  assert.ok(count >= answered && count <= answered + 20, `${answered} answered, ${count} counted`);
  assert.equal(rows, count);
  assert.equal(rollups, count);
});

for (const durability of ["batched", "strict"]) {
  test(`${durability}: after SIGTERM under load, every call that was answered is counted and none was cut`, async () => {
    const { apiKeyId, token, userId } = await createUserAndKey(onlooker.asStaff, `stopped-${durability}`);
    const { url, child, exited } = await spawn({ LATCHKEY_USAGE_DURABILITY: durability });
    const calls = keepCalling(url, token, userId);
    await until(
      () => calls.answered,
      (answered) => answered >= 300,
    );
    child.kill("SIGTERM");
    const { code } = await exited;
    const answered = await calls.finish();
    assert.equal(code, 0);
    assert.deepEqual(await counted(apiKeyId), { count: answered, rows: answered, rollups: answered });
  });
}

test("a killed batched server loses at most what it had not committed: rows and counts still agree", async () => {
  const { apiKeyId, token, userId } = await createUserAndKey(onlooker.asStaff, "killed-batched");
  const { url, child, exited } = await spawn();
  const calls = keepCalling(url, token, userId);
  await until(
    () => counted(apiKeyId),
    ({ count }) => count >= 200,
  );
  child.kill("SIGKILL");
  await exited;
  await calls.finish();
  const { count, rows, rollups } = await counted(apiKeyId);
  assert.ok(count >= 200);
  assert.equal(rows, count);
  assert.equal(rollups, count);
});
