/** Behind the real PgBouncer in transaction mode, with LISTEN on its own direct address. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createTestDatabase } from "../harness/postgres.ts";
import { createUserAndKey, startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

/** Starts PgBouncer before a database and returns the URL of that database through it. */
async function startPgBouncer(t: TestContext, databaseUrl: string): Promise<string> {
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
`,
  );
  for (const path of [directory, users, settings]) chmodSync(path, 0o755);
  // Only the database's own user reaches its socket.
  const owner = execFileSync("stat", ["-c", "%U", socketDirectory], { encoding: "utf8" }).trim();
  const asUser = process.getuid?.() === 0 ? ["-u", owner] : [];
  const child = spawn("pgbouncer", ["-q", ...asUser, settings], { stdio: "ignore" });
  t.after(() => child.kill());
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = net.connect(port, "127.0.0.1", () => resolve(true));
        socket.on("error", () => resolve(false)).on("connect", () => socket.end());
      }),
    Boolean,
  );
  return `postgres://latchkey@127.0.0.1:${port}/${name}`;
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

for (const usageDurability of ["batched", "strict"] as const) {
  test(`${usageDurability}: behind a transaction pooler, keys are made, used, counted exactly and revoked at once`, async (t) => {
    const direct = await createTestDatabase();
    const pooled = await startPgBouncer(t, direct);
    const server = await startServer({ databaseUrl: pooled, listenDatabaseUrl: direct, usageDurability });
    t.after(() => server.close());
    const { apiKeyId, token, userId } = await createUserAndKey(server.asStaff, "pooled");
    const { users } = server.as(token);
    for (let round = 0; round < 5; round++) {
      await Promise.all(Array.from({ length: 40 }, () => users.getUser({ userId })));
    }
    const key = await until(
      async () => (await server.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey,
      (found) => (found?.requestCount ?? 0n) >= 200n,
    );
    assert.equal(key?.requestCount, 200n);
    await server.asStaff.keys.revokeApiKey({ id: apiKeyId });
    await until(
      () => users.getUser({ userId }).then(() => "served", String),
      (outcome) => outcome.includes("revoked"),
    );
    assert.deepEqual(
      server.logLines.filter(({ level }) => (level as number) >= 40),
      [],
    );
  });
}
