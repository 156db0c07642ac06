/** Migrations: on an empty database, again, and by many at once. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { migrate } from "../../src/db/migrate.ts";
import { databaseUrl, openSql } from "../harness/postgres.ts";

const journal: { entries: { idx: number; when: number; tag: string }[] } = JSON.parse(
  readFileSync(new URL("../../drizzle/meta/_journal.json", import.meta.url), "utf8"),
);

/** A database that nobody has migrated. It is kept to the run's end, when it is searched for secrets. */
async function emptyDatabase(): Promise<string> {
  const url = process.env.TEST_POSTGRES_URL ?? "";
  const name = `test_${randomBytes(6).toString("hex")}`;
  const sql = openSql(url);
  await sql.unsafe(`CREATE DATABASE ${name}`);
  await sql.end();
  return databaseUrl(url, name);
}

/** What is in a database: its tables, indexes, triggers and functions, and the migrations that were applied. */
async function contents(url: string) {
  const sql = openSql(url);
  try {
    const objects = await sql`
      SELECT relkind::text || ' ' || relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
      UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
      UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
      ORDER BY 1`;
    const applied =
      await sql`SELECT created_at::bigint::text AS "when" FROM drizzle.__drizzle_migrations ORDER BY id`;
    return { objects: objects.map(({ name }) => name), applied: applied.map(({ when }) => Number(when)) };
  } finally {
    await sql.end();
  }
}

test("the journal names every migration, in order of number and of time: one out of order is skipped silently", () => {
  assert.ok(journal.entries.length > 0);
  for (const [n, entry] of journal.entries.entries()) {
    assert.equal(entry.idx, n);
    assert.ok(entry.tag.startsWith(`${String(n).padStart(4, "0")}_`), entry.tag);
    assert.ok(
      n === 0 || entry.when > journal.entries[n - 1]!.when,
      `${entry.tag} is not after the one before it`,
    );
    assert.ok(existsSync(new URL(`../../drizzle/${entry.tag}.sql`, import.meta.url)), entry.tag);
  }
  const files = readdirSync(new URL("../../drizzle", import.meta.url)).filter((name) =>
    name.endsWith(".sql"),
  );
  assert.deepEqual(
    files.sort(),
    journal.entries.map(({ tag }) => `${tag}.sql`),
  );
});

test("an empty database becomes the schema, and migrating again changes nothing", async () => {
  const url = await emptyDatabase();
  await migrate({ url });
  const first = await contents(url);
  assert.deepEqual(
    first.applied,
    journal.entries.map(({ when }) => when),
  );
  for (const name of [
    "r users",
    "r api_keys",
    "r api_key_usage",
    "p request_logs",
    "r request_logs_default",
  ]) {
    assert.ok(first.objects.includes(name), name);
  }
  await migrate({ url });
  assert.deepEqual(await contents(url), first);
});

test("twenty processes at once on an empty database all find it migrated, once", async () => {
  const alone = await emptyDatabase();
  await migrate({ url: alone });
  const url = await emptyDatabase();
  await Promise.all(Array.from({ length: 20 }, () => migrate({ url })));
  assert.deepEqual(await contents(url), await contents(alone));
});

test("the lock is let go: also by a migration that failed", async () => {
  const url = await emptyDatabase();
  const sql = openSql(url);
  try {
    // In the way of the first migration.
    await sql`CREATE TABLE users (mine text)`;
    await assert.rejects(migrate({ url }), (error: Error) =>
      /"users" already exists/.test(String(error.cause)),
    );
    assert.deepEqual(
      [
        ...(await sql`SELECT * FROM pg_locks WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`),
      ],
      [],
    );
    assert.deepEqual([...(await sql`SELECT 1 FROM pg_class WHERE relname = 'api_keys'`)], []);
    await sql`DROP TABLE users`;
    await migrate({ url });
  } finally {
    await sql.end();
  }
});
