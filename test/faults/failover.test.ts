/** Two real Postgres servers, one replicating the other; the first is killed and the second promoted. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { type OwnPostgres, startOwnPostgres } from "./own-postgres.ts";
import { letIn, type ServerUnderLoad, startUnderLoad } from "./under-load.ts";

interface Pair {
  readonly first: OwnPostgres;
  readonly second: OwnPostgres;
  /** Of both, as `DATABASE_URL` names them: the standby first, so that order is no help. */
  readonly url: string;
}

/** A primary and its streaming standby, made from a copy of the stopped primary. */
async function startPair(t: TestContext, synchronous: boolean): Promise<Pair> {
  const first = await startOwnPostgres(t);
  await first.stop();
  const copy = await mkdtemp(join(tmpdir(), "latchkey-own-"));
  // With their owners: Postgres starts from no files of others.
  execFileSync("cp", ["-a", `${first.dataDir}/.`, copy]);
  await first.start();
  const { searchParams } = new URL(first.directUrl);
  const data = join(copy, "postgres", "data");
  await writeFile(join(data, "standby.signal"), "");
  await writeFile(
    join(data, "postgresql.auto.conf"),
    `primary_conninfo = 'host=${searchParams.get("host")} port=5432 user=latchkey application_name=second'\n`,
  );
  const second = await startOwnPostgres(t, copy);
  const admin = openSql(first.directUrl);
  await until(
    async () => (await admin`SELECT state FROM pg_stat_replication`)[0]?.state,
    (state) => state === "streaming",
  );
  if (synchronous) {
    await admin`ALTER SYSTEM SET synchronous_standby_names = 'second'`;
    await admin`SELECT pg_reload_conf()`;
    await until(
      async () => (await admin`SELECT sync_state FROM pg_stat_replication`)[0]?.sync_state,
      (state) => state === "sync",
    );
  }
  await admin.end();
  const url = `postgres://latchkey@127.0.0.1:${second.proxy.port},127.0.0.1:${first.proxy.port}/latchkey?target_session_attrs=read-write`;
  return { first, second, url };
}

/** What one instance counted for a key, and the rows that show it. */
async function counted(sql: postgres.Sql, { known }: ServerUnderLoad) {
  const [row] = await sql`SELECT
    (SELECT request_count::int FROM api_key_usage WHERE api_key_id = ${known.apiKeyId}) AS count,
    (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${known.apiKeyId}) AS rows`;
  return row as unknown as { count: number; rows: number };
}

/** Kills the first, promotes the second, waits until all works there; returns how long that took. */
async function failOver(pair: Pair, server: ServerUnderLoad, sql: postgres.Sql): Promise<number> {
  const killedAtMs = performance.now();
  await pair.first.kill();
  await sql`SELECT pg_promote()`;
  await until(
    () =>
      server.staff.users.createUser({ username: "after", email: "after@example.com" }).then(
        () => "made",
        (error: Error) => error.message,
      ),
    (outcome) => outcome === "made",
  );
  const tookMs = performance.now() - killedAtMs;
  await server.letInAgain();
  await until(() => server.isServing(), Boolean);
  return tookMs;
}

test("fail-over with asynchronous replication: writes and LISTEN find the new primary by themselves; what was lost is what was not replicated", async (t) => {
  const pair = await startPair(t, false);
  const server = await startUnderLoad(t, pair.url);
  await sleep(1000);
  // Held back, so that there is something to lose: what is committed from here on reaches nobody else.
  const second = openSql(pair.second.directUrl);
  const first = openSql(pair.first.directUrl);
  await first`SELECT pid, pg_terminate_backend(pid) FROM pg_stat_replication`.then(() =>
    second`ALTER SYSTEM SET primary_conninfo = ''`.then(() => second`SELECT pg_reload_conf()`),
  );
  await until(
    async () => (await first`SELECT 1 FROM pg_stat_replication`).length,
    (n) => n === 0,
  );
  await sleep(500);
  await first.end();
  const replicated = await counted(second, server);
  const tookMs = await failOver(pair, server, second);

  // LISTEN: a key that was cached after the fail-over is refused once it is revoked in SQL at the new primary.
  const [token = ""] = server.unseen;
  await until(
    () => server.probe(token),
    (code) => code === letIn,
  );
  const revokedAtMs = performance.now();
  await second`UPDATE api_keys SET revoked_at = now() WHERE name = 'key of unseen-0'`;
  await until(
    () => server.probe(token),
    (code) => code === "Unauthenticated",
  );
  const heardMs = performance.now() - revokedAtMs;
  assert.ok(heardMs < 2000, `${heardMs} ms`);

  await server.stopLoad();
  const calls = server.outcomes.get(letIn) ?? 0;
  const { count, rows } = await until(
    async () => {
      const before = await counted(second, server);
      await sleep(500);
      const after = await counted(second, server);
      return { ...after, settled: after.count === before.count };
    },
    ({ settled }) => settled,
  );
  assert.equal(count, rows, "count and rows agree on the new primary");
  server.process.child.kill("SIGTERM");
  assert.equal((await server.process.exited).code, 0);
  // What the killed primary had committed, seen once nobody can take it for the primary any more.
  await pair.first.start();
  const old = openSql(pair.first.directUrl);
  const committed = await counted(old, server);
  await old.end();
  const lost = calls - count;
  assert.ok(lost > 0, "there was something to lose");
  assert.ok(lost <= committed.count - replicated.count, `${lost} of ${committed.count - replicated.count}`);
  t.diagnostic(
    `a write succeeded ${Math.round(tookMs)} ms after the kill; of ${calls} calls that were let in ${lost} were lost; the killed primary had committed ${committed.count - replicated.count} that it had not passed on; a revocation was heard from the new primary after ${Math.round(heardMs)} ms`,
  );
  await second.end();
  server.assertOnly(letIn, "Unavailable");
});

test("fail-over with synchronous replication: known keys go on, nothing is lost", async (t) => {
  const pair = await startPair(t, true);
  const server = await startUnderLoad(t, pair.url);
  await sleep(1000);
  const second = openSql(pair.second.directUrl);
  const tookMs = await failOver(pair, server, second);
  const balance = await server.settle(second);
  t.diagnostic(
    `a write succeeded ${Math.round(tookMs)} ms after the kill; ${balance.letIn} calls were let in and ${balance.count} counted, ${balance.rows} rows`,
  );
  await second.end();
  server.assertOnly(letIn, "Unavailable");
});
