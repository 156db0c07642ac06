/** A database of an older version, with data in it, is brought up by two processes at once, under load. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import type postgres from "postgres";
import { createToken, hashToken, tokenStart } from "../../src/auth/token.ts";
import { databaseUrl, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import { secretKey, spawnServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { startLoad } from "./load.ts";

const keysOfOld = 200;
const callsOfOld = 20_000;

/** The migrations up to one, as a folder of their own. */
function migrationsUpTo(count: number): string {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-migrations-"));
  cpSync(fileURLToPath(new URL("../../drizzle", import.meta.url)), folder, { recursive: true });
  const file = join(folder, "meta", "_journal.json");
  const journal = JSON.parse(readFileSync(file, "utf8")) as { entries: unknown[] };
  writeFileSync(file, JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }));
  return folder;
}

/** What the first version would have written: users, keys, calls of three days with their counters and rollups. */
async function writeAsOld(sql: postgres.Sql): Promise<string[]> {
  const tokens = Array.from({ length: keysOfOld }, () => noteSecret(createToken("lk")));
  await sql`INSERT INTO users (username, username_key, is_staff) VALUES ('admin', 'admin', true)`;
  await sql`INSERT INTO api_keys (id, user_id, name, type, hash, start)
    SELECT gen_random_uuid(), 1, 'old ' || n, 'service', decode(hash, 'base64'), start
    FROM unnest(${tokens.map((token) => hashToken(token))}::text[], ${tokens.map((token) => tokenStart(token, "lk"))}::text[])
      WITH ORDINALITY AS key (hash, start, n)`;
  await sql`INSERT INTO request_logs (time, id, service, method, protocol, code, user_id, api_key_id, credential_kind,
      duration_us, request_id, instance_id)
    SELECT now() - n * interval '13 seconds', gen_random_uuid(), 'api.users.UserService', 'GetUser', 'grpc', 0, 1, id, 'api_key',
      1000, 'old', '00000000-0000-7000-8000-000000000000'
    FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS k FROM api_keys) key
    JOIN generate_series(1, ${callsOfOld}::int) AS n ON n % ${keysOfOld}::int = k`;
  await sql`INSERT INTO api_key_usage (api_key_id, request_count, last_used_at)
    SELECT api_key_id, count(*), max(time) FROM request_logs GROUP BY 1`;
  for (const unit of [60, 3600, 86_400]) {
    const bucket = sql`to_timestamp(floor(extract(epoch FROM time) / ${unit}) * ${unit})`;
    const sums = sql`count(*), sum(duration_us), 0, 0, ARRAY[count(*)::int] FROM request_logs`;
    await sql`INSERT INTO method_rollups (period_s, bucket, service, method, code, requests, duration_us, request_bytes,
        response_bytes, latency)
      SELECT ${unit}::int, ${bucket} AS b, service, method, code, ${sums} GROUP BY b, 3, 4, 5`;
    await sql`INSERT INTO key_rollups (period_s, bucket, service, method, code, api_key_id, user_id, requests, duration_us,
        request_bytes, response_bytes, latency)
      SELECT ${unit}::int, ${bucket} AS b, service, method, code, api_key_id, user_id, ${sums} GROUP BY b, 3, 4, 5, 6, 7`;
  }
  return tokens;
}

async function totals(sql: postgres.Sql) {
  const [row] = await sql`SELECT
    (SELECT sum(request_count)::int FROM api_key_usage) AS counts,
    (SELECT count(*)::int FROM request_logs WHERE api_key_id IS NOT NULL) AS rows,
    (SELECT sum(requests)::int FROM method_rollups WHERE period_s = 60) AS by_method,
    (SELECT sum(requests)::int FROM key_rollups WHERE period_s = 60) AS by_key`;
  return row as unknown as { counts: number; rows: number; by_method: number; by_key: number };
}

test("a database of the first version is upgraded by two processes at once, under load: its keys work, nothing is lost, counts are exact", async (t) => {
  const server = process.env.TEST_POSTGRES_URL ?? "";
  const name = `test_${randomBytes(6).toString("hex")}`;
  const admin = openSql(server);
  await admin.unsafe(`CREATE DATABASE ${name}`);
  await admin.end();
  const url = databaseUrl(server, name);
  const sql = openSql(url);
  t.after(() => sql.end());
  await migrate(drizzle(sql), { migrationsFolder: migrationsUpTo(2) });
  const tokens = await writeAsOld(sql);
  const before = await totals(sql);
  assert.deepEqual(before, {
    counts: callsOfOld,
    rows: callsOfOld,
    by_method: callsOfOld,
    by_key: callsOfOld,
  });

  const startedAtMs = performance.now();
  const env = { DATABASE_URL: url, LATCHKEY_SECRET_KEY: noteSecret(secretKey) };
  const calls = { answered: 0 };
  // Each is under load from the moment it listens.
  const processes = await Promise.all(
    [1, 2].map(async () => {
      const child = await spawnServer(env);
      const load = startLoad({ urls: [child.url], tokens, clients: 4, userId: 1n, pauseMs: 5 });
      return { ...child, load };
    }),
  );
  const upgradedMs = performance.now() - startedAtMs;
  t.after(() => {
    for (const { child } of processes) child.kill("SIGKILL");
  });
  const answered = () =>
    processes.map(({ load }) => [...load.answered.values()].reduce((sum, n) => sum + n, 0));
  // Long enough for each key to be used at each process, while the old partitions are being moved.
  await until(answered, (each) => each.every((n) => n >= 2 * keysOfOld));
  // What is not moved yet, nobody sees; the next start would go on with it.
  await until(
    () => sql`SELECT relname FROM pg_class WHERE relname ~ '_stray_[0-9]+$'`,
    (strays) => strays.length === 0,
  );
  await Promise.all(processes.map(({ load }) => load.stop()));
  for (const { load } of processes) assert.deepEqual([...load.failed], []);
  calls.answered = answered().reduce((sum, n) => sum + n, 0);
  for (const { child } of processes) child.kill("SIGTERM");
  for (const { exited } of processes) assert.equal((await exited).code, 0);

  const expected = callsOfOld + calls.answered;
  assert.deepEqual(await totals(sql), {
    counts: expected,
    rows: expected,
    by_method: expected,
    by_key: expected,
  });
  const [idle] =
    await sql`SELECT count(*)::int AS n FROM api_key_usage WHERE idle_since <> (last_used_at AT TIME ZONE 'UTC')::date`;
  assert.equal(idle?.n, 0, "what is derived from old data is derived of all of it");
  t.diagnostic(
    `${keysOfOld} keys and ${callsOfOld} calls of the old version: two processes listened ${Math.round(upgradedMs)} ms after their start; ${calls.answered} calls by all keys meanwhile, ${expected} counted`,
  );
});
