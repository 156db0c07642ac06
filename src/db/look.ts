/** What a database is and holds, for those who want to know what is wrong: only read. */
import { sql } from "drizzle-orm";
import { TimedOutError, within } from "../within.ts";
import type { DatabaseAddress } from "./address.ts";
import { connect, type Database, database, sqlState } from "./client.ts";
import { countMigrations, migrationTimes } from "./migrate.ts";

export interface DatabaseState {
  /** E.g. "18.4". */
  readonly version: string;
  readonly major: number;
  /** How far its clock is ahead of this process', in milliseconds. */
  readonly clockAheadMs: number;
  readonly migrations: {
    /** That this version has. */
    readonly known: number;
    /** Of those, that the database has. */
    readonly applied: number;
    /** The database has one that this version does not know. */
    readonly hasNewer: boolean;
  };
  readonly connections: { readonly most: number; readonly used: number };
  /** Undefined before the first migration. */
  readonly activeStaff: number | undefined;
  /** Versions of the instances that run. */
  readonly runningVersions: readonly string[];
}

const answerMs = 7_000;

/** Reads it. Rejects within 7 s where no Postgres answers. */
export async function lookAtDatabase(address: DatabaseAddress, pooled: boolean): Promise<DatabaseState> {
  const client = connect(address, { max: 1, purpose: "doctor", statementTimeoutMs: 5_000, pooled });
  try {
    return await answered(read(database(client)));
  } finally {
    await client.end({ timeout: 0 });
  }
}

/** Whether a NOTIFY that is sent by way of one address is heard at another. Rejects where no Postgres answers. */
export async function hearsChanges(
  from: DatabaseAddress,
  at: DatabaseAddress,
  pooled: boolean,
): Promise<boolean> {
  const channel = `latchkey_doctor_${process.pid}`;
  const { promise: heard, resolve } = Promise.withResolvers<void>();
  const listener = connect(at, {
    max: 1,
    purpose: "doctor",
    statementTimeoutMs: 5_000,
    onNotification: () => resolve(),
  });
  const sender = connect(from, { max: 1, purpose: "doctor", statementTimeoutMs: 5_000, pooled });
  try {
    await answered(listener.unsafe(`LISTEN ${channel}`));
    await answered(database(sender).execute(sql`SELECT pg_notify(${channel}, '')`));
    return await within(2_000, heard).then(
      () => true,
      () => false,
    );
  } finally {
    await Promise.all([listener.end({ timeout: 0 }), sender.end({ timeout: 0 })]);
  }
}

async function answered<T>(answer: Promise<T>): Promise<T> {
  return within(answerMs, answer).catch((error: unknown) => {
    if (!(error instanceof TimedOutError)) throw error;
    throw Object.assign(new Error("it takes connections, but does not answer"), { code: "CONNECT_TIMEOUT" });
  });
}

async function read(db: Database): Promise<DatabaseState> {
  const before = Date.now();
  const [row] = await db.execute<{
    version: string;
    major: number;
    ms: number;
    most: number;
    used: number;
  }>(sql`
    SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
      current_setting('server_version_num')::int / 10000 AS major,
      (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms,
      current_setting('max_connections')::int AS most,
      (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS used`);
  if (row === undefined) throw new Error("Postgres gave no row");
  // By the middle of the time that the answer took.
  const clockAheadMs = row.ms - (before + Date.now()) / 2;
  const migrations = await readMigrations(db);
  const isMigrated = migrations.applied === migrations.known || migrations.hasNewer;
  return {
    version: row.version,
    major: row.major,
    clockAheadMs,
    migrations,
    connections: { most: row.most, used: row.used },
    activeStaff: isMigrated ? await countActiveStaff(db) : undefined,
    runningVersions: isMigrated ? await readRunningVersions(db) : [],
  };
}

async function readMigrations(db: Database): Promise<DatabaseState["migrations"]> {
  try {
    const { known, applied } = await countMigrations(db);
    const [row] = await db.execute<{ all: number }>(
      sql`SELECT count(*)::int AS all FROM drizzle.__drizzle_migrations`,
    );
    return { known, applied, hasNewer: (row?.all ?? 0) > applied };
  } catch (error) {
    // Neither the schema nor the table is there before the first migration.
    if (!["42P01", "3F000"].includes(sqlState(error) ?? "")) throw error;
    return { known: (await migrationTimes()).length, applied: 0, hasNewer: false };
  }
}

async function countActiveStaff(db: Database): Promise<number> {
  const [row] = await db.execute<{ count: number }>(
    sql`SELECT count(*)::int AS count FROM users WHERE is_staff AND is_active`,
  );
  return row?.count ?? 0;
}

async function readRunningVersions(db: Database): Promise<string[]> {
  const rows = await db.execute<{ version: string }>(sql`
    SELECT DISTINCT version FROM instances
    WHERE stopped_at IS NULL AND seen_at > now() - interval '30 seconds' ORDER BY version`);
  return rows.map(({ version }) => version);
}
