/** Brings a database to this version's schema. */
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import { migrate as drizzleMigrate } from "drizzle-orm/postgres-js/migrator";
import { connect, type DatabaseAddress, database } from "./client.ts";

// src/db and dist/db lie equally deep in the package.
const migrationsFolder = fileURLToPath(new URL("../../drizzle", import.meta.url));

const oldestVersion = 14;

/** Any number, the same in every instance. */
const migrationLock = 7_270_951_824;

/**
 * Applies the migrations that are missing. May be called by many processes at
 * once: one at a time holds an advisory lock, the others wait. On a connection of
 * its own, since Drizzle takes no lock and an advisory lock belongs to a session.
 */
export async function migrate(address: DatabaseAddress): Promise<void> {
  const client = connect(address, { max: 1, purpose: "migration", statementTimeoutMs: 0 });
  const db = database(client);
  try {
    const [row] = await db.execute<{ version: number }>(
      sql`SELECT current_setting('server_version_num')::int / 10000 AS version`,
    );
    if (row === undefined || row.version < oldestVersion) {
      throw new Error(`Postgres ${row?.version} is too old: Latchkey needs ${oldestVersion} or newer`);
    }
    await db.execute(sql`SELECT pg_advisory_lock(${migrationLock})`);
    await drizzleMigrate(db, { migrationsFolder });
  } finally {
    // Closing the session releases the lock.
    await client.end({ timeout: 5 });
  }
}
