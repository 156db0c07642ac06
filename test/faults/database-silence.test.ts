/** The machine of Postgres is gone without a word: nobody closes the connections, and nothing comes on them any more. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { startDatabaseProxy } from "./proxy.ts";
import { inWords, letIn, startUnderLoad } from "./under-load.ts";

test("connections that go silent are replaced by themselves: verdicts, changes and counting all work again, and nothing is lost", async (t) => {
  const direct = await createTestDatabase();
  const proxy = await startDatabaseProxy(new URL(direct).searchParams.get("host") ?? "");
  t.after(() => proxy.close());
  const server = await startUnderLoad(t, proxy.url(direct));
  const make = (name: string) =>
    server.staff.users.createUser({ username: name, email: `${name}@example.com` }).then(
      () => "made",
      (error: Error) => error.message,
    );
  // So that many connections are open, and one in use by a transaction.
  await Promise.all(Array.from({ length: 20 }, (_, n) => make(`before-${n}`)));

  const silentSinceMs = performance.now();
  proxy.silence();
  const noticed = until(
    () => server.isServing(),
    (serving) => !serving,
  );
  const making = make("meanwhile");
  for (const token of server.unseen) {
    const code = await server.probe(token);
    assert.ok([letIn, "Unavailable"].includes(code), code);
  }
  await noticed;
  await until(
    async () => [await server.isServing(), await server.probe(server.unseen[0] ?? "")],
    ([serving, code]) => serving === true && code === letIn,
  );
  const backMs = performance.now() - silentSinceMs;
  await server.letInAgain();
  await until(
    () => make("after"),
    (outcome) => outcome === "made",
  );
  const changesMs = performance.now() - silentSinceMs;
  assert.notEqual(await making, "made");
  const givenUpMs = performance.now() - silentSinceMs;
  for (let n = 0; n < 20; n++) {
    await until(
      () => make(`after-${n}`),
      (outcome) => outcome === "made",
    );
  }
  t.diagnostic(
    `look-ups, heartbeats and LISTEN were back after ${Math.round(backMs)} ms, changes after ${Math.round(changesMs)} ms, and what was under way was given up after ${Math.round(givenUpMs)} ms`,
  );
  const sql = openSql(direct);
  t.diagnostic(inWords(server, await server.settle(sql)));
  await sql.end();
  server.assertOnly(letIn, "Unavailable");
});
