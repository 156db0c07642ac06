/** `--workers N`: what it takes, what it says, how it starts and ends. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  clientsOf,
  connectTransport,
  newDirectory,
  onDatabase,
  spawnMain,
  spawnServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { workersOf } from "../harness/workers.ts";

function run(t: TestContext, args: string[], env: Record<string, string>) {
  const { child, exited } = spawnMain(args, env);
  t.after(() => child.kill("SIGKILL"));
  return exited;
}

for (const args of [["--workers"], ["--workers", "0"], ["--workers=65"], ["serve", "--workers", "two"]]) {
  test(`latchkey ${args.join(" ")} is refused with what --workers takes`, async (t) => {
    const { code, stdout, stderr } = await run(t, args, { LATCHKEY_DATA_DIR: newDirectory() });
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^latchkey: .*--workers/);
    if (args.join("").match(/0|65|two/)) assert.match(stderr, /must be a whole number from 1 to 64/);
    assert.match(stderr, /Usage: latchkey/);
  });
}

test("an option that there is not is refused", async (t) => {
  const { code, stderr } = await run(t, ["--worker", "2"], { LATCHKEY_DATA_DIR: newDirectory() });
  assert.equal(code, 2);
  assert.match(stderr, /--worker\b[\s\S]*Usage: latchkey/);
});

test("the option stands above the setting", async (t) => {
  const env = { LATCHKEY_DATA_DIR: newDirectory(), LATCHKEY_WORKERS: "2" };
  const { code, stdout, stderr } = await run(t, ["serve", "--workers", "9"], env);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /^latchkey: LATCHKEY_WORKERS above 8 needs DATABASE_URL/);
});

test("what only the workers find out ends the start, told once, as with one instance", async (t) => {
  const missing = join(newDirectory(), "missing.pem");
  const env = await onDatabase({ LATCHKEY_TLS_CERT: missing, LATCHKEY_TLS_KEY: missing });
  const single = await run(t, [], env);
  const several = await run(t, ["--workers", "3"], env);
  assert.equal(single.code, 1);
  assert.match(single.stderr, /^latchkey: cannot read LATCHKEY_TLS_CERT/m);
  assert.deepEqual(several, single);
});

test("a taken port ends the start as with one instance, and leaves nothing running", async (t) => {
  const rival = net.createServer().listen(0, "127.0.0.1");
  t.after(() => rival.close());
  await once(rival, "listening");
  const { port } = rival.address() as AddressInfo;
  const dataDir = newDirectory();
  const env = { LATCHKEY_DATA_DIR: dataDir, PORT: String(port) };
  // Resolves once nobody holds its standard output any more: no worker either.
  const { code, stdout, stderr } = await run(t, ["--workers", "2"], env);
  assert.deepEqual([code, stdout], [1, ""]);
  const said = stderr.split("\n").filter((line) => line.startsWith("latchkey: "));
  assert.equal(said.length, 1, stderr);
  assert.match(stderr, new RegExp(`127\\.0\\.0\\.1:${port} is taken .* PORT`));
  noteSecret(readFileSync(join(dataDir, "secret-key"), "utf8").trim());
  assert.ok(!existsSync(join(dataDir, "postgres/data/postmaster.pid")));
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`two workers on the embedded database: one banner, one secret key, two instances; ${signal} ends all with 0`, async (t) => {
    const dataDir = newDirectory();
    const server = await spawnServer({ LATCHKEY_DATA_DIR: dataDir, LATCHKEY_WORKERS: "2" });
    t.after(() => server.child.kill("SIGKILL"));
    assert.equal(server.banner.match(/is listening/g)?.length, 1);
    assert.match(server.banner, /database\s+embedded Postgres in /);
    const made = noteSecret(server.banner.match(/secret key\s+(\S+)/)?.[1] ?? "");
    assert.equal(readFileSync(join(dataDir, "secret-key"), "utf8").trim(), made);
    const workers = workersOf(server);
    assert.equal(workers.length, 2);

    // Two connections that stay open go to two workers.
    const held = await Promise.all([0, 1].map(() => holdConnection(t, server.url)));
    const seen = await Promise.all(held.map((socket) => getUser(socket, made)));
    for (const answer of seen) assert.match(answer, /"username":"admin"/);
    const staff = clientsOf(connectTransport(server.url, made));
    const instances = await until(
      async () => {
        const { requestLogs } = await staff.logs.listRequestLogs({ filter: { method: "GetUser" } });
        return new Set(requestLogs.map(({ instanceId }) => instanceId));
      },
      ({ size }) => size === 2,
    );
    assert.equal(instances.size, 2);
    // Seeded once.
    assert.equal((await staff.admin.listUsers({})).users.length, 2);

    server.child.kill(signal);
    // Impatience changes nothing.
    server.child.kill(signal);
    const { code, stderr } = await server.exited;
    assert.equal(code, 0, stderr);
    assert.equal(stderr.match(/starting Postgres/g)?.length, 1);
    assert.ok(!existsSync(join(dataDir, "postgres/data/postmaster.pid")));
  });
}

async function holdConnection(t: TestContext, url: string): Promise<net.Socket> {
  const socket = net.connect(Number(new URL(url).port), "127.0.0.1");
  t.after(() => socket.destroy());
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

/** Calls GetUser on a connection that is open, and leaves it open. */
async function getUser(socket: net.Socket, token: string): Promise<string> {
  const body = '{"userId":"1"}';
  const head = [
    "POST /api.users.UserService/GetUser HTTP/1.1",
    `host: latchkey\r\nx-api-key: ${token}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`,
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n${body}`);
  let answer = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    answer += text;
  });
  return until(
    () => answer,
    (text) => text.includes("}"),
  );
}

test("workers on a database of their own need no secret key in production, and make no user", async (t) => {
  const env = await onDatabase({ NODE_ENV: "production", LATCHKEY_WORKERS: "2" });
  const server = await spawnServer(env);
  t.after(() => server.child.kill("SIGKILL"));
  assert.match(server.banner, /secret key\s+not accepted/);
  server.child.kill("SIGTERM");
  assert.equal((await server.exited).code, 0);
  const sql = openSql(env.DATABASE_URL ?? "");
  assert.deepEqual([...(await sql`SELECT id FROM users`)], []);
  await sql.end();
});
