/** Postgres has no room: no connection is free, or no block for the request log. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chownSync, closeSync, mkdtempSync, openSync, rmdirSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import postgresClient from "postgres";
import { openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";
import { startOwnPostgres } from "./own-postgres.ts";
import { inWords, letIn, startUnderLoad } from "./under-load.ts";

test("all connections taken by others: unknown keys are unavailable, nothing is lost, and it recovers once there is room", async (t) => {
  const postgres = await startOwnPostgres(t);
  const admin = openSql(postgres.directUrl);
  // Superusers have connections in reserve.
  await admin`CREATE ROLE app LOGIN`;
  await admin`CREATE DATABASE keys OWNER app`;
  const url = new URL(postgres.url);
  url.username = "app";
  url.pathname = "/keys";
  const server = await startUnderLoad(t, url.href);

  const { searchParams } = new URL(postgres.directUrl);
  const others = postgresClient({
    host: searchParams.get("host") ?? "",
    username: "app",
    database: "postgres",
    max: 300,
    fetch_types: false,
    backoff: () => 0,
  });
  t.after(() => others.end({ timeout: 0 }));
  let taken = 0;
  const sessions = async () =>
    (await admin`SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = 'keys'`)[0]?.n as number;
  await until(
    async () => {
      await admin`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'keys'`;
      const open = await Promise.allSettled(Array.from({ length: 300 }, () => others`SELECT pg_sleep(0.2)`));
      taken = open.filter(({ status }) => status === "fulfilled").length;
      return sessions();
    },
    (n) => n === 0,
  );
  for (const token of server.unseen) assert.equal(await server.probe(token), "Unavailable");
  await until(
    () => server.isServing(),
    (serving) => !serving,
  );
  await others.end({ timeout: 0 });
  await server.letInAgain();
  await until(() => server.isServing(), Boolean);
  for (const token of server.unseen) assert.equal(await server.probe(token), letIn);
  t.diagnostic(`others held ${taken} connections`);
  await admin.end();
  await settle(t, withDatabase(postgres.directUrl, "keys"), server);
  server.assertOnly(letIn, "Unavailable");
});

test("no space left for the request log: calls and look-ups go on, and all is written once there is space", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("only root can mount a file system that is small");
  const postgres = await startOwnPostgres(t);
  const disk = mountSmallDisk(t, statSync(await postgres.dataDirectory()).uid);
  const admin = openSql(postgres.directUrl);
  const server = await startUnderLoad(t, postgres.url);
  await admin.unsafe(`CREATE TABLESPACE small LOCATION '${disk.directory}'`);
  const partitions = await admin`SELECT inhrelid::regclass::text AS name FROM pg_inherits
    WHERE inhparent = 'request_logs'::regclass`;
  for (const { name } of partitions) await admin.unsafe(`ALTER TABLE ${name} SET TABLESPACE small`);
  await server.letInAgain();

  disk.fill();
  await until(server.log, (log) => log.includes("usage cannot be written"));
  assert.match(server.log(), /No space left on device/);
  const before = server.outcomes.get(letIn) ?? 0;
  await until(
    () => server.outcomes.get(letIn) ?? 0,
    (n) => n > before + 500,
  );
  assert.equal(await server.isServing(), true, "verdicts can be had");
  for (const token of server.unseen) assert.equal(await server.probe(token), letIn);
  disk.empty();
  await admin.end();
  await settle(t, postgres.directUrl, server);
  server.assertOnly(letIn);
});

/** A file system of 8 MB that belongs to a user. */
function mountSmallDisk(t: TestContext, uid: number) {
  const directory = mkdtempSync(join(tmpdir(), "latchkey-small-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "latchkey-small", directory]);
  t.after(() => {
    execFileSync("umount", [directory]);
    rmdirSync(directory);
  });
  chownSync(directory, uid, uid);
  // Beside what Postgres makes there, which wants the directory for itself.
  const filler = join(directory, "filler");
  return {
    directory,
    fill() {
      const file = openSync(filler, "w");
      try {
        for (let size = 1024 * 1024; size >= 1; size = size === 1 ? 0 : size / 2) writeAll(file, size);
      } finally {
        closeSync(file);
      }
    },
    empty: () => rmSync(filler),
  };
}

/** Appends blocks of a size until there is no room for another. */
function writeAll(file: number, size: number): void {
  try {
    for (;;) if (writeSync(file, Buffer.alloc(size)) < size) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  }
}

function withDatabase(url: string, name: string): string {
  const other = new URL(url);
  other.pathname = `/${name}`;
  return other.href;
}

async function settle(t: TestContext, url: string, server: Awaited<ReturnType<typeof startUnderLoad>>) {
  const sql = openSql(url);
  try {
    t.diagnostic(inWords(server, await server.settle(sql)));
  } finally {
    await sql.end();
  }
}
