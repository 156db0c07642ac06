/** The real PgBouncer before a test's database. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { answers, freePort } from "./ports.ts";
import { until } from "./until.ts";

export interface PgBouncer {
  /** Of the database through it. */
  readonly url: string;
  /** kill -9, or as an operator stops it; resolves once it is gone. */
  stop(signal: "SIGKILL" | "SIGTERM"): Promise<void>;
  start(): Promise<void>;
}

/** Starts PgBouncer in transaction mode before a database. Needs Debian's package of that name. */
export async function startPgBouncer(
  t: TestContext,
  databaseUrl: string,
  tls?: { cert: string; key: string },
): Promise<PgBouncer> {
  assert.equal(
    spawnSync("pgbouncer", ["--version"]).status,
    0,
    "pgbouncer is missing: install Debian's package of that name",
  );
  const socketDirectory = new URL(databaseUrl).searchParams.get("host") ?? "";
  const name = new URL(databaseUrl).pathname.slice(1);
  const port = await freePort();
  const directory = mkdtempSync(join(tmpdir(), "latchkey-pgbouncer-"));
  const users = join(directory, "users.txt");
  const settings = join(directory, "pgbouncer.ini");
  writeFileSync(users, '"latchkey" ""\n');
  writeFileSync(
    settings,
    `[databases]
${name} = host=${socketDirectory} port=5432 user=latchkey
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = 3
${tls === undefined ? "" : `client_tls_sslmode = require\nclient_tls_cert_file = ${directory}/cert\nclient_tls_key_file = ${directory}/key\n`}`,
  );
  if (tls !== undefined) {
    for (const name of ["cert", "key"] as const) {
      writeFileSync(join(directory, name), tls[name], { mode: 0o644 });
    }
  }
  for (const path of [directory, users, settings]) chmodSync(path, 0o755);
  // Only the database's own user reaches its socket.
  const owner = execFileSync("stat", ["-c", "%U", socketDirectory], { encoding: "utf8" }).trim();
  const asUser = process.getuid?.() === 0 ? ["-u", owner] : [];
  let child: ChildProcess | undefined;
  const bouncer: PgBouncer = {
    url: `postgres://latchkey@127.0.0.1:${port}/${name}`,
    async stop(signal) {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    },
    async start() {
      child = spawn("pgbouncer", ["-q", ...asUser, settings], { stdio: "ignore" });
      await until(() => answers(port), Boolean);
    },
  };
  t.after(() => bouncer.stop("SIGKILL"));
  await bouncer.start();
  return bouncer;
}
