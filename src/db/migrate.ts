/** Brings a database to this version's schema. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import { migrate as drizzleMigrate } from "drizzle-orm/postgres-js/migrator";
import { TimedOutError, within } from "../within.ts";
import type { DatabaseAddress } from "./address.ts";
import { connect, type Database, database } from "./client.ts";
import { PostgresTooOldError } from "./too-old.ts";

// src/db and dist/db lie equally deep in the package.
const migrationsFolder = fileURLToPath(new URL("../../drizzle", import.meta.url));

const oldestVersion = 14;
/** postgres.js gives a connection up after 5 s, but tries again without end where one is taken and hung up. */
const firstAnswerMs = 7_000;

/** Any number, the same in every instance. */
const migrationLock = 7_270_951_824;

/**
 * Applies the migrations that are missing. May be called by many processes at
 * once: one at a time holds an advisory lock, the others wait. On a connection of
 * its own, since Drizzle takes no lock and an advisory lock belongs to a session.
 *
 * Rejects with {@link PostgresTooOldError}, and within 7 s where no Postgres answers.
 */
export async function migrate(address: DatabaseAddress): Promise<void> {
  const client = connect(address, { max: 1, purpose: "migration", statementTimeoutMs: 0 });
  const db = database(client);
  let answered = false;
  try {
    const version = await answerWithin(firstAnswerMs, readVersion(db));
    answered = true;
    if (version < oldestVersion) {
      throw new PostgresTooOldError(
        `Postgres ${version} is too old: Latchkey needs ${oldestVersion} or newer`,
      );
    }
    await db.execute(sql`SELECT pg_advisory_lock(${migrationLock})`);
    await drizzleMigrate(db, { migrationsFolder });
  } finally {
    // Closing the session releases the lock.
    await client.end({ timeout: answered ? 5 : 0 });
  }
}

/** How many migrations this version has, and how many of them the database has. */
export async function countMigrations(db: Database): Promise<{ known: number; applied: number }> {
  const times = await migrationTimes();
  const [row] = await db.execute<{ applied: number }>(sql`
    SELECT count(*)::int AS applied FROM drizzle.__drizzle_migrations
    WHERE created_at = ANY (${sql.param(times.map(String))}::bigint[])`);
  return { known: times.length, applied: row?.applied ?? 0 };
}

/** When each migration of this version was made: what Drizzle knows them by. */
export async function migrationTimes(): Promise<number[]> {
  const journal = await readFile(join(migrationsFolder, "meta/_journal.json"), "utf8");
  const { entries } = JSON.parse(journal) as { entries: { when: number }[] };
  return entries.map(({ when }) => when);
}

async function readVersion(db: Database): Promise<number> {
  const [row] = await db.execute<{ version: number }>(
    sql`SELECT current_setting('server_version_num')::int / 10000 AS version`,
  );
  return row?.version ?? 0;
}

async function answerWithin<T>(timeoutMs: number, answer: Promise<T>): Promise<T> {
  return within(timeoutMs, answer).catch((error: unknown) => {
    if (!(error instanceof TimedOutError)) throw error;
    throw Object.assign(new Error("it takes connections, but does not answer"), { code: "CONNECT_TIMEOUT" });
  });
}
