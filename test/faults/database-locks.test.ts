/** Postgres answers, but not at once: tables that somebody has locked, and statements that are slow. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { startDatabaseProxy } from "./proxy.ts";
import { inWords, letIn, startUnderLoad } from "./under-load.ts";

/** Runs while somebody holds a table in ACCESS EXCLUSIVE mode, as an ALTER TABLE or a VACUUM FULL does. */
async function whileLocked(url: string, table: string, run: () => Promise<void>): Promise<void> {
  const admin = openSql(url);
  try {
    await admin.begin(async (tx) => {
      await tx`LOCK TABLE ${tx(table)} IN ACCESS EXCLUSIVE MODE`;
      await run();
    });
  } finally {
    await admin.end();
  }
}

async function waiting(url: string): Promise<number> {
  const admin = openSql(url);
  try {
    const [row] = await admin`SELECT count(*)::int AS n FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    return row?.n as number;
  } finally {
    await admin.end();
  }
}

test("api_keys locked: known keys go on, unknown ones are unavailable, health is SERVING", async (t) => {
  const url = await createTestDatabase();
  const server = await startUnderLoad(t, url);
  let tookMs = 0;
  await whileLocked(url, "api_keys", async () => {
    const startedAtMs = performance.now();
    const codes = await Promise.all(server.unseen.map((token) => server.probe(token)));
    tookMs = performance.now() - startedAtMs;
    assert.deepEqual(new Set(codes), new Set(["Unavailable"]));
    await server.letInAgain();
    assert.equal(await server.isServing(), true);
  });
  for (const token of server.unseen) {
    await until(
      () => server.probe(token),
      (code) => code === letIn,
    );
  }
  t.diagnostic(`unknown keys were answered after ${Math.round(tookMs)} ms`);
  await settle(t, url, server);
  server.assertOnly(letIn);
});

for (const table of ["request_logs", "api_key_usage", "method_rollups"]) {
  test(`${table} locked: calls go on, and all of them are counted once it is let go`, async (t) => {
    const url = await createTestDatabase();
    const server = await startUnderLoad(t, url);
    await whileLocked(url, table, async () => {
      await until(() => waiting(url), Boolean);
      const before = server.outcomes.get(letIn) ?? 0;
      await until(
        () => server.outcomes.get(letIn) ?? 0,
        (n) => n > before + 200,
      );
      assert.equal(await server.isServing(), true);
      assert.equal(await server.probe(server.unseen[0] ?? ""), letIn);
    });
    await settle(t, url, server);
    server.assertOnly(letIn);
  });
}

test("request_logs locked for longer than a statement may take: nothing is counted twice, and nothing is missing", async (t) => {
  const url = await createTestDatabase();
  const server = await startUnderLoad(t, url);
  await whileLocked(url, "request_logs", async () => {
    await until(server.log, (log) => log.includes("usage cannot be written"));
  });
  await settle(t, url, server);
  server.assertOnly(letIn);
});

test("a database that takes 200 ms a statement: known keys wait for none of them, all is counted", async (t) => {
  const direct = await createTestDatabase();
  const proxy = await startDatabaseProxy(new URL(direct).searchParams.get("host") ?? "");
  t.after(() => proxy.close());
  const server = await startUnderLoad(t, proxy.url(direct));
  proxy.delayMs = 200;
  const before = server.outcomes.get(letIn) ?? 0;
  await sleep(5000);
  assert.equal(await server.isServing(), true);
  const startedAtMs = performance.now();
  assert.equal(await server.probe(server.unseen[0] ?? ""), letIn);
  t.diagnostic(
    `${(server.outcomes.get(letIn) ?? 0) - before} calls in 5 s; an unknown key was let in after ${Math.round(performance.now() - startedAtMs)} ms`,
  );
  await settle(t, direct, server);
  server.assertOnly(letIn);
});

async function settle(t: TestContext, url: string, server: Awaited<ReturnType<typeof startUnderLoad>>) {
  const sql = openSql(url);
  try {
    t.diagnostic(inWords(server, await server.settle(sql)));
  } finally {
    await sql.end();
  }
}
