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
 * It shares processors with the load, which goes first: else what the database does after an answer
 * would count as the server's slowness in reading the next ones.
 */
const niceness = 5;

export async function startScratchPostgres(directory: string): Promise<ScratchPostgres> {
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
