/** Connections to a real Postgres over TLS: whom they trust, and what becomes of them when they end or fall silent. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chownSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { sql } from "drizzle-orm";
import postgres from "postgres";
import type { DatabaseAddress } from "../../src/db/address.ts";
import { connect, database } from "../../src/db/client.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import { closedPort } from "../harness/closed-port.ts";
import { finallyDo } from "../harness/finally-do.ts";
import { pem } from "../harness/pem.ts";
import { openSql } from "../harness/postgres.ts";
import { startStatements } from "../harness/statements.ts";
import { until } from "../harness/until.ts";

let dataDir: string;
let server: ChildProcess;
let port: number;
/** Without TLS. */
let admin: postgres.Sql;

/** The embedded Postgres listens on no port: the same server is started again as one of the network. */
before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "latchkey-tls-"));
  const embedded = await startEmbeddedPostgres({ dataDir });
  const first = openSql(`postgres://latchkey@localhost/latchkey?host=${embedded.host}`);
  const [found] = await first<{ bin: string; data: string }[]>`
    SELECT setting AS bin, current_setting('data_directory') AS data FROM pg_config WHERE name = 'BINDIR'`;
  await first.end();
  await embedded.stop();
  const { bin, data } = found!;
  const { uid, gid } = statSync(data);
  for (const [name, text] of Object.entries({ "server.crt": pem.cert, "server.key": pem.key })) {
    writeFileSync(join(data, name), text, { mode: 0o600 });
    chownSync(join(data, name), uid, gid);
  }
  writeFileSync(join(data, "pg_hba.conf"), "host all all 127.0.0.1/32 trust\n");
  port = await closedPort();
  const settings = {
    ssl: "on",
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
  };
  server = spawn(
    join(bin, "postgres"),
    ["-D", data, "-p", String(port), ...Object.entries(settings).flatMap(([k, v]) => ["-c", `${k}=${v}`])],
    { stdio: "ignore", uid, gid, cwd: data },
  );
  admin = postgres({ host: "127.0.0.1", port, database: "latchkey", username: "latchkey", max: 1 });
  await until(
    () => admin`SELECT 1`.catch(() => undefined),
    (rows) => rows !== undefined,
  );
});
after(async () => {
  await admin?.end();
  if (server !== undefined) {
    const ended = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGINT");
    await ended;
  }
  await rm(dataDir, { recursive: true, force: true });
});

const at = (host: string, query = "") => ({ url: `postgres://latchkey@${host}:${port}/latchkey${query}` });
const own = (ssl: object) =>
  postgres({ host: "127.0.0.1", port, database: "latchkey", username: "latchkey", ssl });

/** Whether a statement at an address runs encrypted. Rejects where it does not run. */
async function isEncrypted(address: DatabaseAddress): Promise<unknown> {
  const client = connect(address, { max: 1, purpose: "tls", statementTimeoutMs: 5000 });
  try {
    const [row] = await database(client).execute(
      sql`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`,
    );
    return row?.ssl;
  } catch (error) {
    throw error instanceof Error && error.cause instanceof Error ? error.cause : error;
  } finally {
    await client.end({ timeout: 1 });
  }
}

const encrypted: Record<string, () => DatabaseAddress> = {
  "sslmode=require": () => at("127.0.0.1", "?sslmode=require"),
  "sslmode=prefer": () => at("127.0.0.1", "?sslmode=prefer"),
  "sslmode=require by a name": () => at("localhost", "?sslmode=require"),
  "sslnegotiation=direct": () => at("127.0.0.1", "?sslmode=require&sslnegotiation=direct"),
  "a program's client that trusts its certificate": () => ({ client: own({ ca: pem.cert }) }),
};
for (const [how, address] of Object.entries(encrypted)) {
  test(`with ${how} a statement runs encrypted`, async () => {
    assert.equal(await isEncrypted(address()), true);
  });
}

test("without sslmode, or with disable, it does not", async () => {
  assert.equal(await isEncrypted(at("127.0.0.1")), false);
  assert.equal(await isEncrypted(at("127.0.0.1", "?sslmode=disable")), false);
});

test("who asks for a verified server is connected to no other", async () => {
  await assert.rejects(isEncrypted(at("127.0.0.1", "?sslmode=verify-full")), /self.signed certificate/);
  const elsewhere = { ca: pem.cert, servername: "elsewhere.example" };
  await assert.rejects(isEncrypted({ client: own(elsewhere) }), /does not match certificate/);
});

test("a server without TLS is told apart: who requires it is refused, who prefers it goes on", async (t) => {
  // Answers as Postgres without TLS does.
  const plain = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("N");
      const upstream = net.connect(port, "127.0.0.1").on("error", () => {});
      socket.pipe(upstream).pipe(socket);
    });
  });
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  finallyDo(t, () => new Promise((resolve) => plain.close(resolve)));
  const url = `postgres://latchkey@127.0.0.1:${(plain.address() as net.AddressInfo).port}/latchkey`;
  assert.equal(await isEncrypted({ url: `${url}?sslmode=prefer` }), false);
  await assert.rejects(isEncrypted({ url: `${url}?sslmode=require` }), /has no TLS: switch it on there/);
});

test("a connection that falls silent is cut, and another takes its place", async (t) => {
  const client = connect(at("127.0.0.1", "?sslmode=require"), {
    max: 1,
    purpose: "silent",
    statementTimeoutMs: 400,
  });
  finallyDo(t, () => client.end({ timeout: 0 }));
  const [row] = await client<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`;
  process.kill(row!.pid, "SIGSTOP");
  finallyDo(t, async () => process.kill(row!.pid, "SIGCONT"));
  await assert.rejects(client`SELECT 1`, { code: "CONNECTION_CLOSED" });
  assert.equal((await client`SELECT 2 AS two`)[0]?.two, 2);
});

test("while statements go out in every turn, sessions are ended: each statement settles, none waits for a new connection in vain", async (t) => {
  const client = connect(at("127.0.0.1", "?sslmode=require"), {
    max: 1,
    purpose: "turns",
    statementTimeoutMs: 0,
  });
  finallyDo(t, () => client.end({ timeout: 0 }));
  const load = startStatements(client);
  finallyDo(t, async () => load.stop());
  for (let round = 0; round < 10; round++) {
    await load.answered(50);
    await admin`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'latchkey turns'`;
  }
  await load.settled();
  for (const code of load.failures.keys()) assert.match(code, /^(57P01|CONNECTION_CLOSED|ECONNRESET)$/);
});
