/** Postgres goes away and comes back: what was promised while it is away, and that nothing is missing afterwards. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { type OwnPostgres, startOwnPostgres } from "./own-postgres.ts";
import { inWords, letIn, type ServerUnderLoad, startUnderLoad } from "./under-load.ts";

const maxStalenessMs = 2000;
/** Seconds of the long outage; the real one is FAULTS_OUTAGE_S=600. */
const outageS = Number(process.env.FAULTS_OUTAGE_S ?? 20);

async function settle(t: TestContext, server: ServerUnderLoad, postgres: OwnPostgres) {
  const sql = openSql(postgres.directUrl);
  try {
    const balance = await server.settle(sql);
    t.diagnostic(inWords(server, balance));
    return balance;
  } finally {
    await sql.end();
  }
}

/** Codes of calls with keys that were never seen, one after the other. */
async function probeUnseen(server: ServerUnderLoad): Promise<string[]> {
  const codes: string[] = [];
  for (const token of server.unseen) codes.push(await server.probe(token));
  return codes;
}

test("a restart of Postgres under load: known keys go on for maxStalenessMs, unknown ones are unavailable, all is counted", async (t) => {
  const postgres = await startOwnPostgres(t);
  const server = await startUnderLoad(t, postgres.url);
  assert.equal(await server.isServing(), true);

  await postgres.stop();
  const stoppedAtMs = performance.now();
  assert.deepEqual(new Set(await probeUnseen(server)), new Set(["Unavailable"]));
  await until(
    () => server.probe(server.known.token),
    (code) => code === "Unavailable",
  );
  const knownForMs = server.lastLetInMs - stoppedAtMs;
  assert.ok(knownForMs <= maxStalenessMs, `${knownForMs} ms`);
  await until(
    () => server.isServing(),
    (serving) => !serving,
  );
  await postgres.start();
  const startedAtMs = performance.now();
  await server.letInAgain();
  const letInMs = performance.now() - startedAtMs;
  await until(() => server.isServing(), Boolean);
  const servingMs = performance.now() - startedAtMs;
  assert.deepEqual(new Set(await probeUnseen(server)), new Set([letIn]));

  t.diagnostic(
    `known keys were let in for ${Math.round(knownForMs)} ms after the stop; after the start they were again after ${Math.round(letInMs)} ms, health said SERVING after ${Math.round(servingMs)} ms`,
  );
  await settle(t, server, postgres);
  assert.deepEqual(
    new Set(server.outcomes.keys()),
    new Set([letIn, "Unavailable"]),
    "no call fails otherwise",
  );
});

test("pg_terminate_backend of every session, again and again under load: keys are never called unknown, all is counted", async (t) => {
  const postgres = await startOwnPostgres(t);
  const server = await startUnderLoad(t, postgres.url);
  const admin = openSql(postgres.directUrl);
  let ended = 0;
  for (let round = 0; round < 20; round++) {
    const sessions = await admin`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE application_name LIKE 'latchkey %' AND backend_type = 'client backend'`;
    ended += sessions.length;
    // Look-ups are under way while it happens. They may fail, but never as if the key were bad.
    const code = await server.probe(server.unseen[round % server.unseen.length] ?? "");
    assert.ok([letIn, "Unavailable"].includes(code), code);
    await sleep(100);
  }
  await until(() => server.isServing(), Boolean);
  await server.letInAgain();
  // Each of its connections works again, those of transactions too.
  for (let n = 0; n < 20; n++) {
    await until(
      () =>
        server.staff.users.createUser({ username: `after-${n}`, email: `after-${n}@example.com` }).then(
          () => "made",
          (error: Error) => error.message,
        ),
      (outcome) => outcome === "made",
    );
  }
  t.diagnostic(`${ended} sessions were ended in 20 rounds`);
  await settle(t, server, postgres);
  server.assertOnly(letIn, "Unavailable");
  await admin.end();
});

test(`an outage of ${outageS} s with staleIfErrorMs: known keys go on, memory is bounded, every call is counted`, {
  timeout: (outageS + 100) * 1000,
}, async (t) => {
  const postgres = await startOwnPostgres(t);
  const env = { LATCHKEY_CACHE_STALE_IF_ERROR_MS: String((outageS + 60) * 1000) };
  const server = await startUnderLoad(t, postgres.url, env, { clients: 16, pauseMs: 2 });
  const before = server.memoryMb().now;
  await postgres.stop();
  const stoppedAtMs = performance.now();
  while (performance.now() - stoppedAtMs < outageS * 1000) {
    assert.equal(await server.probe(server.unseen[0] ?? ""), "Unavailable");
    await sleep(500);
  }
  assert.equal(await server.isServing(), false);
  const { now, most } = server.memoryMb();
  await postgres.start();
  const startedAtMs = performance.now();
  const balance = await settle(t, server, postgres);
  t.diagnostic(
    `${balance.letIn} calls were let in; RSS ${before} MB before, ${now} MB at the end of the outage, at most ${most} MB; all written ${Math.round(performance.now() - startedAtMs)} ms after the start`,
  );
  assert.equal(server.outcomes.get("Unauthenticated"), undefined);
  assert.ok(most - before < 400, `${most - before} MB more`);
});
