/** A Postgres of a test's own, which can be stopped, started and killed, behind a proxy that stays. */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import { openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { type DatabaseProxy, startDatabaseProxy } from "./proxy.ts";

export interface OwnPostgres {
  readonly dataDir: string;
  /** Where its cluster lies. */
  dataDirectory(): Promise<string>;
  readonly proxy: DatabaseProxy;
  /** Past the proxy. It changes with each start. */
  readonly directUrl: string;
  /** Through the proxy. */
  readonly url: string;
  /** Fast shutdown. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** kill -9 of the postmaster; resolves once its processes are gone. */
  kill(): Promise<void>;
}

/** Starts Postgres in a folder that is deleted after the test, or in one that is there. */
export async function startOwnPostgres(t: TestContext, folder?: string): Promise<OwnPostgres> {
  const dataDir = folder ?? (await mkdtemp(join(tmpdir(), "latchkey-own-")));
  let embedded: EmbeddedPostgres = await startEmbeddedPostgres({ dataDir });
  const proxy = await startDatabaseProxy(embedded.host);
  const directUrl = () => `postgres://latchkey@localhost/latchkey?host=${embedded.host}`;
  const own: OwnPostgres = {
    dataDir,
    async dataDirectory() {
      const sql = openSql(directUrl());
      try {
        const [row] = await sql`SHOW data_directory`;
        return row?.data_directory as string;
      } finally {
        await sql.end();
      }
    },
    proxy,
    get directUrl() {
      return directUrl();
    },
    url: proxy.url(directUrl()),
    async stop() {
      proxy.target = undefined;
      await embedded.stop();
    },
    async start() {
      embedded = await startEmbeddedPostgres({ dataDir });
      proxy.target = embedded.host;
    },
    async kill() {
      const pidFile = join(await own.dataDirectory(), "postmaster.pid");
      const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
      process.kill(pid, "SIGKILL");
      proxy.target = undefined;
      // Backends end by themselves once they notice.
      await until(
        () => proxy.open,
        (open) => open === 0,
      );
    },
  };
  t.after(async () => {
    proxy.close();
    await embedded.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
  return own;
}
