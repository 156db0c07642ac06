/** The one Postgres of a test run, and a database of its own for each test file. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import { migrate } from "../../src/db/migrate.ts";

const template = "latchkey_template";

export interface TestPostgres {
  /** What test files find it by. */
  readonly env: { TEST_POSTGRES_URL: string };
  /** Stops it and deletes its folder, of gigabytes. */
  stop(): Promise<void>;
}

/** Starts Postgres in a new folder and migrates the database that the others are cloned from. */
export async function startTestPostgres(): Promise<TestPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), "latchkey-test-"));
  const first = await startEmbeddedPostgres({ dataDir });
  // Counts what Postgres is asked to do; can only be loaded at a start.
  await admin(urlOf(first), (sql) => sql`ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`);
  // Tells of each row when it was committed.
  await admin(urlOf(first), (sql) => sql`ALTER SYSTEM SET track_commit_timestamp = on`);
  await first.stop();
  const embedded = await startEmbeddedPostgres({ dataDir });
  const url = urlOf(embedded);
  await admin(url, (sql) => sql.unsafe(`CREATE DATABASE ${template}`));
  await migrate({ url: databaseUrl(url, template) });
  return {
    env: { TEST_POSTGRES_URL: url },
    async stop() {
      await embedded.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

function urlOf({ username, database, host }: EmbeddedPostgres): string {
  return `postgres://${username}@localhost/${database}?host=${host}`;
}

/**
 * A migrated, empty database. It is kept until the run's end, when it is searched for
 * secrets; one of "made-up" rows, which are many and which no server wrote, is not.
 */
export async function createTestDatabase(rows: "written" | "made-up" = "written"): Promise<string> {
  const url = process.env.TEST_POSTGRES_URL;
  if (url === undefined) throw new Error("there is no test database: run tests with npm test -- FILE…");
  const name = `${rows === "written" ? "test" : "made"}_${randomBytes(6).toString("hex")}`;
  await admin(url, (sql) => sql.unsafe(`CREATE DATABASE ${name} TEMPLATE ${template}`));
  return databaseUrl(url, name);
}

/** Opens a plain client: how a test looks at what is really there. */
export function openSql(url: string): postgres.Sql {
  const { searchParams } = new URL(url);
  return postgres(url.split("?")[0] ?? url, {
    host: searchParams.get("host") ?? "localhost",
    max: 2,
    onnotice: () => {},
  });
}

/** Ends every connection to a server's database and lets nobody in until it is mended. */
export async function breakDatabase(server: { readonly databaseUrl: string }): Promise<() => Promise<void>> {
  const name = new URL(server.databaseUrl).pathname.slice(1);
  const sql = openSql(process.env.TEST_POSTGRES_URL ?? "");
  await sql`ALTER DATABASE ${sql(name)} ALLOW_CONNECTIONS false`;
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${name}`;
  return async () => {
    await sql`ALTER DATABASE ${sql(name)} ALLOW_CONNECTIONS true`;
    await sql.end();
  };
}

/** The URL of another database on the same server. */
export function databaseUrl(url: string, name: string): string {
  const other = new URL(url);
  other.pathname = `/${name}`;
  return other.href;
}

async function admin(url: string, run: (sql: postgres.Sql) => PromiseLike<unknown>): Promise<void> {
  const sql = openSql(url);
  try {
    await run(sql);
  } finally {
    await sql.end();
  }
}
