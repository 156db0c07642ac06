/** The bench's Postgres: an embedded one in a folder of its own, and databases in it. */
import { readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { urlOf } from "../../src/db/address.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import { databaseUrl, openSql } from "../harness/postgres.ts";

export interface ScratchPostgres {
  /** Makes an empty database and returns its URL. */
  create(): Promise<string>;
  /** Drops all that were made. */
  drop(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * It shares processors with the load, which goes somewhat before it: else what the database does after an
 * answer would count as the server's slowness in reading the next ones. Where sessions are scheduled as
 * groups (sched(7), "The autogroup feature"), they have equal parts whatever this says. With much less,
 * the database could not take what the load brings, and rows of the log would be dropped.
 */
const niceness = 5;

export async function startScratchPostgres(directory: string): Promise<ScratchPostgres> {
  await prepare(directory);
  const embedded = await startEmbeddedPostgres({ dataDir: directory });
  const [pid] = readFileSync(join(directory, "postgres/data/postmaster.pid"), "utf8").split("\n");
  setPriority(Number(pid), niceness);
  const url = urlOf(embedded);
  let made = 0;
  let dropped = 0;

  async function run(statement: string): Promise<void> {
    const sql = openSql(url);
    try {
      await sql.unsafe(statement);
    } finally {
      await sql.end();
    }
  }

  return {
    async create() {
      const name = `bench_${++made}`;
      await run(`CREATE DATABASE ${name}`);
      return databaseUrl(url, name);
    },
    async drop() {
      while (dropped < made) await run(`DROP DATABASE bench_${++dropped} WITH (FORCE)`);
    },
    stop: () => embedded.stop(),
  };
}

/** What an operator sets for a database that is written to without end; the defaults are for the smallest machine. */
const settings = { shared_buffers: "1GB", min_wal_size: "2GB", max_wal_size: "4GB" };
const walFiles = 96;

/**
 * Sets that, and makes the files of the write-ahead log as they are after the first hour: it goes on
 * in old ones. At first it fills each new one with zeros, a sixth of what a row of the request log costs.
 */
async function prepare(directory: string): Promise<void> {
  const embedded = await startEmbeddedPostgres({ dataDir: directory });
  const sql = openSql(urlOf(embedded));
  for (const [name, value] of Object.entries(settings)) {
    await sql.unsafe(`ALTER SYSTEM SET ${name} = '${value}'`);
  }
  await sql`SELECT pg_reload_conf()`;
  for (let n = 0; n < walFiles; n++) {
    await sql`SELECT pg_logical_emit_message(false, 'bench', 'to the next file'), pg_switch_wal()`;
  }
  await sql`CHECKPOINT`;
  await sql.end();
  await embedded.stop();
}
