/** What the database tells of the servers that share it. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";
import { countMigrations } from "../db/migrate.ts";
import { type Instance, lostAfterMs } from "../db/presence.ts";
import { apiKeys, instances, sessions, users } from "../db/schema.ts";

export interface ListedInstance extends Instance {
  readonly seenAt: Date;
  readonly state: "running" | "stopped" | "lost";
}

export interface DatabaseState {
  /** E.g. "18.4". */
  readonly version: string;
  readonly migrations: { readonly known: number; readonly applied: number };
  /** Those that run, and those that ended within the last day; the newest first. */
  readonly instances: readonly ListedInstance[];
  readonly counts: Counts;
}

export interface Counts {
  readonly users: bigint;
  readonly activeUsers: bigint;
  readonly staffUsers: bigint;
  readonly apiKeys: bigint;
  readonly activeApiKeys: bigint;
  /** Active keys that expire within 14 days. */
  readonly expiringApiKeys: bigint;
  readonly sessions: bigint;
}

/** More, where a day has seen many restarts, are nobody's to read. */
const mostInstances = 200;

/** Reads all of it. Rejects where the database does not answer. */
export async function readDatabaseState(db: Database): Promise<DatabaseState> {
  const [version, migrations, listed, counts] = await Promise.all([
    readVersion(db),
    countMigrations(db),
    listInstances(db),
    count(db),
  ]);
  return { version, migrations, instances: listed, counts };
}

/** How long the database takes to answer at all, in milliseconds. */
export async function measureLatency(db: Database): Promise<number> {
  const startedMs = performance.now();
  await db.execute(sql`SELECT 1`);
  return performance.now() - startedMs;
}

async function readVersion(db: Database): Promise<string> {
  const [row] = await db.execute<{ version: string }>(
    sql`SELECT current_setting('server_version') AS version`,
  );
  // What a distribution adds is no part of it: "16.4 (Debian 16.4-1)".
  return row?.version.split(" ", 1)[0] ?? "";
}

async function listInstances(db: Database): Promise<ListedInstance[]> {
  const rows = await db.execute<{
    id: string;
    hostname: string;
    pid: number;
    version: string;
    started_ms: string;
    seen_ms: string;
    state: ListedInstance["state"];
  }>(sql`
    SELECT id, hostname, pid, version, extract(epoch FROM started_at) * 1000 AS started_ms,
      extract(epoch FROM seen_at) * 1000 AS seen_ms,
      CASE WHEN stopped_at IS NOT NULL THEN 'stopped'
        WHEN seen_at < now() - make_interval(secs => ${lostAfterMs / 1000}::float8) THEN 'lost'
        ELSE 'running' END AS state
    FROM ${instances}
    WHERE seen_at > now() - interval '1 day'
    ORDER BY started_at DESC, id DESC LIMIT ${mostInstances}`);
  return rows.map(({ started_ms, seen_ms, ...instance }) => ({
    ...instance,
    startedAt: new Date(Number(started_ms)),
    seenAt: new Date(Number(seen_ms)),
  }));
}

async function count(db: Database): Promise<Counts> {
  const active = sql`revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`;
  const [row] = await db.execute<Record<keyof Counts, string>>(sql`
    SELECT (SELECT count(*) FROM ${users}) AS "users",
      (SELECT count(*) FROM ${users} WHERE is_active) AS "activeUsers",
      (SELECT count(*) FROM ${users} WHERE is_staff) AS "staffUsers",
      (SELECT count(*) FROM ${apiKeys}) AS "apiKeys",
      (SELECT count(*) FROM ${apiKeys} WHERE ${active}) AS "activeApiKeys",
      (SELECT count(*) FROM ${apiKeys} WHERE revoked_at IS NULL
        AND expires_at > now() AND expires_at <= now() + interval '336 hours') AS "expiringApiKeys",
      (SELECT count(*) FROM ${sessions} WHERE expires_at > now()) AS "sessions"`);
  const n = (name: keyof Counts) => BigInt(row?.[name] ?? 0);
  return {
    users: n("users"),
    activeUsers: n("activeUsers"),
    staffUsers: n("staffUsers"),
    apiKeys: n("apiKeys"),
    activeApiKeys: n("activeApiKeys"),
    expiringApiKeys: n("expiringApiKeys"),
    sessions: n("sessions"),
  };
}
