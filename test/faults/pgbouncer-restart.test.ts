/** PgBouncer is restarted under load: gently and by kill -9. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startPgBouncer } from "../harness/pgbouncer.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { inWords, letIn, startUnderLoad } from "./under-load.ts";

test("restarts of PgBouncer under load: known keys go on, changes are made again by themselves, every call is counted once", async (t) => {
  const direct = await createTestDatabase();
  const bouncer = await startPgBouncer(t, direct);
  const server = await startUnderLoad(t, bouncer.url, { LATCHKEY_LISTEN_DATABASE_URL: direct });
  const recoveredMs: number[] = [];
  for (const [n, signal] of (["SIGTERM", "SIGKILL", "SIGTERM", "SIGKILL"] as const).entries()) {
    await bouncer.stop(signal);
    const code = await server.probe(server.unseen[n] ?? "");
    assert.equal(code, "Unavailable");
    await bouncer.start();
    const startedAtMs = performance.now();
    await until(
      () => server.probe(server.unseen[n] ?? ""),
      (found) => found === letIn,
    );
    await until(
      () =>
        server.staff.users.createUser({ username: `after-${n}`, email: `after-${n}@example.com` }).then(
          () => "made",
          (error: Error) => error.message,
        ),
      (outcome) => outcome === "made",
    );
    await until(() => server.isServing(), Boolean);
    recoveredMs.push(Math.round(performance.now() - startedAtMs));
  }
  t.diagnostic(`all worked again ${recoveredMs.join(", ")} ms after PgBouncer was back`);
  const sql = openSql(direct);
  t.diagnostic(inWords(server, await server.settle(sql)));
  await sql.end();
  server.assertOnly(letIn, "Unavailable");
});
