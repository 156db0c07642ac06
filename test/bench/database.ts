/** The database of a measurement: where it is, what was made in it, and of what size. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "drizzle-orm";
import type postgres from "postgres";
import { connect, type Database, database } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { openDatabase } from "../../src/db/open.ts";

export interface DataSize {
  /** Of the request log. */
  readonly rows: number;
  readonly keys: number;
  readonly users: number;
  /** The rows end when they were made, and begin so many days earlier. */
  readonly days: number;
}

export interface MadeData extends DataSize {
  /** The times of the rows, in milliseconds since 1970; the end is exclusive. */
  readonly startMs: number;
  readonly endMs: number;
  /** False: the making did not come to its end. */
  readonly isWhole: boolean;
}

export interface BenchDatabase {
  readonly client: postgres.Sql;
  readonly db: Database;
  /** Nobody else uses it, so that it can be tuned while it is filled. */
  readonly isOwn: boolean;
  readonly description: string;
  close(): Promise<void>;
}

export const defaultDataDir = join(tmpdir(), "latchkey-bench");

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** For a promise of all that a script does: says what went wrong, in a line. */
export function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}

/** Opens the database at DATABASE_URL, else an embedded one in a folder, and migrates it. */
export async function openBenchDatabase(dataDir: string, connections: number): Promise<BenchDatabase> {
  const databaseUrl = process.env.DATABASE_URL || undefined;
  const opened = await openDatabase({ databaseUrl, listenDatabaseUrl: undefined, dataDir, onProgress: say });
  try {
    await migrate(opened.address);
  } catch (error) {
    await opened.close();
    throw error;
  }
  const client = connect(opened.address, { max: connections, purpose: "bench", statementTimeoutMs: 0 });
  return {
    client,
    db: database(client),
    isOwn: databaseUrl === undefined,
    description: opened.description,
    async close() {
      await client.end({ timeout: 5 });
      await opened.close();
    },
  };
}

/** What was made in a database, which a comment on its largest table tells; undefined: nothing. */
export async function readMade(db: Database): Promise<MadeData | undefined> {
  const [row] = await db.execute<{ comment: string | null }>(
    sql`SELECT obj_description('request_logs'::regclass) AS comment`,
  );
  return row?.comment?.startsWith(mark) ? JSON.parse(row.comment.slice(mark.length)) : undefined;
}

export async function writeMade(db: Database, made: MadeData): Promise<void> {
  // A literal, as DDL takes no parameters, of numbers.
  await db.execute(sql`COMMENT ON TABLE request_logs IS ${sql.raw(`'${mark}${JSON.stringify(made)}'`)}`);
}

const mark = "made by test/bench: ";
