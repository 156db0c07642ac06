/** What a call costs the database in the steady state. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Health } from "../../src/gen/health/v1/health_pb.js";
import { connectTransport, createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { statementsSeen, watchStatements } from "../harness/statements-seen.ts";
import { until } from "../harness/until.ts";

let latchkey: TestServer;
before(async () => {
  // Health's handler asks nothing of the database: what is seen is what the guard costs.
  latchkey = await startServer({ logInfrastructure: true });
});
after(() => latchkey.close());

test("a thousand authenticated calls cost no SELECT, and far fewer statements than calls", async () => {
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "steady");
  const health = createClient(Health, connectTransport(latchkey.url, token));
  const committed = async () => {
    const [row] =
      await latchkey.sql`SELECT request_count::int AS n FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
    return row?.n as number;
  };
  // Twice: the news that the key was created may arrive only after the first look-up, and drop it.
  for (const n of [1, 2]) {
    await health.check({});
    await until(committed, (found) => found === n);
  }

  await watchStatements(latchkey.sql);
  for (let round = 0; round < 20; round++) {
    await Promise.all(Array.from({ length: 50 }, () => health.check({})));
  }
  await until(committed, (n) => n === 1002);

  const seen = (await statementsSeen(latchkey.sql)).filter(
    ({ query }) => !query.startsWith("SELECT request_count"),
  );
  const selects = seen.filter(({ query }) => /^\s*select/i.test(query) && !/pg_notify/.test(query));
  // What a server that has just started looks after asks once.
  const repeated = selects.filter(({ calls }) => calls > 2);
  assert.deepEqual(repeated, []);
  const batches = seen.filter(({ query }) => query.includes('INSERT INTO "request_logs"'));
  assert.equal(batches.length, 1, "the log is written by one statement");
  const statements = seen.reduce((sum, { calls }) => sum + calls, 0);
  assert.ok(statements <= 200, `${statements} statements for 1000 calls`);
});
