/** The process: what it prints, how it ends, and what it says where it cannot start. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import net, { type AddressInfo, type Socket } from "node:net";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { hasCurl, runCurl, runGrpcurl } from "./harness/commands.ts";
import { pem } from "./harness/pem.ts";
import { databaseUrl, openSql } from "./harness/postgres.ts";
import { noteSecret } from "./harness/secrets.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  newDirectory,
  onDatabase,
  type ServerProcess,
  secretKey,
  spawnMain,
  spawnServer,
} from "./harness/server.ts";
import { until } from "./harness/until.ts";

const password = noteSecret("hunter2-is-no-password");

/** Starts a server that does not outlive the test. */
async function start(t: TestContext, env: Record<string, string>): Promise<ServerProcess> {
  const server = await spawnServer(env);
  t.after(async () => {
    server.child.kill("SIGTERM");
    await server.exited;
  });
  return server;
}

/** Runs a command that is to end by itself. */
function run(t: TestContext, args: string[], env: Record<string, string>) {
  const { child, exited } = spawnMain(args, env);
  t.after(() => child.kill("SIGKILL"));
  return exited;
}

/** Asserts that the process could not start and said so in one line that is fit to be read. */
async function assertRefuses(
  t: TestContext,
  env: Record<string, string>,
  ...messages: RegExp[]
): Promise<string> {
  const { code, stdout, stderr } = await run(t, [], env);
  assert.equal(stdout, "");
  for (const message of messages) assert.match(stderr, message);
  const said = stderr.split("\n").filter((line) => line.startsWith("latchkey: "));
  assert.equal(said.length, 1, stderr);
  assert.ok(!/^\s+at /m.test(stderr), `a stack tells an operator nothing: ${stderr}`);
  assert.ok(!stderr.includes(password) && !stderr.includes(secretKey), stderr);
  assert.equal(code, 1);
  return stderr;
}

async function stop({ child, exited }: ServerProcess, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  assert.equal((await exited).code, 0);
}

/** The commands of a banner that begin with a program's name. */
function commandsOf(banner: string, program: string): string[] {
  return banner
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith(`${program} `));
}

/** Runs all that a banner offers. Returns the token of the key that was made on the way. */
async function runBanner(banner: string, withCurl?: boolean): Promise<string> {
  const [getUser, createKey, listLogs, ...more] = commandsOf(banner, "curl");
  assert.ok(getUser && createKey && listLogs && more.length === 0, banner);
  assert.equal((await runCurl(getUser, withCurl)).username, "admin");
  const token = String((await runCurl(createKey, withCurl)).token);
  assert.match(noteSecret(token), /^lk_/);
  // A longer page than printed: each look adds a row, and rows come a moment after their calls.
  const longer = listLogs.replace('"pageSize":5', '"pageSize":500');
  await until(
    async () => JSON.stringify(await runCurl(longer, withCurl)),
    (found) => found.includes('"CreateApiKey"'),
  );
  assert.ok(Array.isArray((await runCurl(listLogs, withCurl)).requestLogs));
  const [grpcurl, ...others] = commandsOf(banner, "grpcurl");
  assert.ok(grpcurl && others.length === 0, banner);
  assert.equal((await runGrpcurl(grpcurl)).username, "admin");
  return token;
}

const secretKeyOf = (banner: string) => noteSecret(banner.match(/secret key\s+(\S+)/)?.[1] ?? "");

test("the first start on an empty data directory prints commands that work as they are printed", async (t) => {
  const server = await start(t, { LATCHKEY_DATA_DIR: newDirectory() });
  secretKeyOf(server.banner);
  await runBanner(server.banner);
  // As a newcomer's machine may have no curl, the commands are those of any HTTP client.
  await runBanner(server.banner, false);
  await stop(server, "SIGTERM");
});

test("a second start keeps keys, counts and the secret key, which its owner alone can read", async (t) => {
  const dataDir = newDirectory();
  const first = await start(t, { LATCHKEY_DATA_DIR: dataDir });
  const madeSecretKey = secretKeyOf(first.banner);
  const file = join(dataDir, "secret-key");
  assert.equal(readFileSync(file, "utf8").trim(), madeSecretKey);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const staff = clientsOf(connectTransport(first.url, madeSecretKey));
  const { userId, apiKeyId, token } = await createUserAndKey(staff, "kept");
  const calls = Array.from({ length: 20 }, () =>
    clientsOf(connectTransport(first.url, token)).users.getUser({ userId }),
  );
  await Promise.all(calls);
  await stop(first, "SIGINT");

  const second = await start(t, { LATCHKEY_DATA_DIR: dataDir });
  assert.equal(secretKeyOf(second.banner), madeSecretKey);
  const kept = clientsOf(connectTransport(second.url, token));
  const { apiKey } = await kept.keys.getApiKey({ id: apiKeyId });
  assert.equal(apiKey?.requestCount, 20n);
  await stop(second, "SIGTERM");
});

test("a second server on a running one's data directory says so and leaves the first one be", async (t) => {
  const dataDir = newDirectory();
  const first = await start(t, { LATCHKEY_DATA_DIR: dataDir });
  const staff = clientsOf(connectTransport(first.url, secretKeyOf(first.banner)));
  const stderr = await assertRefuses(t, { LATCHKEY_DATA_DIR: dataDir }, /DATABASE_URL/);
  assert.ok(stderr.includes(dataDir), stderr);
  const bootstrap = await run(t, ["bootstrap", "--username", "late"], { LATCHKEY_DATA_DIR: dataDir });
  assert.deepEqual([bootstrap.code, bootstrap.stdout], [1, ""]);
  assert.ok(bootstrap.stderr.includes(dataDir), bootstrap.stderr);
  await staff.users.getUser({ userId: 1n });
  await stop(first, "SIGTERM");
  assert.ok(!existsSync(join(dataDir, "postgres/data/postmaster.pid")));
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal}: the process ends with 0 at once after the last answer, and every call is counted`, async (t) => {
    const env = await onDatabase();
    const server = await start(t, env);
    const staff = clientsOf(connectTransport(server.url, secretKey));
    const { userId, apiKeyId, token } = await createUserAndKey(staff, "signalled");
    const { users } = clientsOf(connectTransport(server.url, token));
    await Promise.all(Array.from({ length: 50 }, () => users.getUser({ userId })));
    server.child.kill(signal);
    // Impatience changes nothing.
    server.child.kill(signal);
    assert.equal((await server.exited).code, 0);
    const sql = openSql(env.DATABASE_URL ?? "");
    const [row] = await sql`SELECT request_count::int AS n FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
    await sql.end();
    assert.equal(row?.n, 50);
  });
}

test("a secret key that a shell would take apart is printed so that it does not", async (t) => {
  const odd = noteSecret(`sk'$HOME"\`;#\\&|(!)*`);
  const server = await start(t, await onDatabase({ LATCHKEY_SECRET_KEY: odd }));
  const [getUser = ""] = commandsOf(server.banner, "curl");
  assert.equal((await runCurl(getUser)).email, "admin@localhost.localdomain");
  assert.equal((await runCurl(getUser, false)).email, "admin@localhost.localdomain");
});

test("with authentication off, the banner offers only what can be called", async (t) => {
  const server = await start(t, await onDatabase({ LATCHKEY_AUTH_ENABLED: "false" }));
  const commands = commandsOf(server.banner, "curl");
  assert.ok(commands.length > 0);
  for (const command of commands) {
    const answer = await runCurl(command, false);
    assert.ok(!("code" in answer), command);
  }
  assert.match(server.banner, /authentication\s+off/);
});

test("a server that listens on every address prints one that can be called", async (t) => {
  const server = await start(t, await onDatabase({ HOST: "0.0.0.0" }));
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  await runBanner(server.banner);
});

test("a taken port is named, with what to do, and nothing is left running", async (t) => {
  const rival = net.createServer().listen(0, "127.0.0.1");
  t.after(() => rival.close());
  await once(rival, "listening");
  const { port } = rival.address() as AddressInfo;
  const dataDir = newDirectory();
  const message = new RegExp(`127\\.0\\.0\\.1:${port} is taken .* PORT or --port`);
  await assertRefuses(t, { LATCHKEY_DATA_DIR: dataDir, PORT: String(port) }, message);
  noteSecret(readFileSync(join(dataDir, "secret-key"), "utf8").trim());
  assert.ok(!existsSync(join(dataDir, "postgres/data/postmaster.pid")));
});

test("an address that is not this machine's is named, with what to do", async (t) => {
  await assertRefuses(t, await onDatabase({ HOST: "192.0.2.1" }), /192\.0\.2\.1/, /HOST/);
  await assertRefuses(t, await onDatabase({ HOST: "no-such-host.invalid" }), /no-such-host\.invalid/, /HOST/);
});

/** A port on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

for (const host of ["127.0.0.1", "localhost"]) {
  test(`a database at ${host} that does not run is named without its password`, async (t) => {
    const port = await closedPort();
    const env = {
      DATABASE_URL: `postgres://ada:${password}@${host}:${port}/keys`,
      LATCHKEY_DATA_DIR: newDirectory(),
    };
    const stderr = await assertRefuses(t, env, /ECONNREFUSED: \S/, /Check DATABASE_URL/);
    assert.ok(stderr.includes(`Postgres at ${host}:${port}, database keys`), stderr);
    const bootstrap = await run(t, ["bootstrap", "--username", "ada"], env);
    assert.equal(bootstrap.code, 1);
    assert.equal(bootstrap.stderr, stderr);
  });
}

test("a database on a host that there is not is named", async (t) => {
  const env = {
    DATABASE_URL: `postgres://ada:${password}@no-such-host.invalid/keys`,
    LATCHKEY_DATA_DIR: newDirectory(),
  };
  await assertRefuses(t, env, /Postgres at no-such-host\.invalid, database keys/, /Check DATABASE_URL/);
});

// At once: most of their time is waiting for an answer that does not come.
describe("a DATABASE_URL where no Postgres is", { concurrency: 3 }, () => {
  for (const [what, behave] of [
    ["never answers", () => {}],
    [
      "answers garbage",
      (socket) => socket.on("data", () => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n")),
    ],
    ["speaks first", (socket) => socket.write("SSH-2.0-OpenSSH_9.9\r\n")],
    ["hangs up when spoken to", (socket) => socket.on("data", () => socket.end())],
    ["resets the connection", (socket) => socket.resetAndDestroy()],
  ] as readonly [string, (socket: Socket) => void][]) {
    test(`something that ${what} ends the start with a message`, {
      timeout: 40_000,
    }, async (t) => {
      const impostor = net.createServer((socket) => {
        socket.on("error", () => {});
        behave(socket);
      });
      t.after(() => impostor.close());
      impostor.listen(0, "127.0.0.1");
      await once(impostor, "listening");
      const { port } = impostor.address() as AddressInfo;
      const env = {
        DATABASE_URL: `postgres://ada:${password}@127.0.0.1:${port}/keys`,
        LATCHKEY_DATA_DIR: newDirectory(),
      };
      const named = new RegExp(`Postgres at 127\\.0\\.0\\.1:${port}, database keys`);
      await assertRefuses(t, env, named, /Check DATABASE_URL/);
    });
  }
});

test("a database that is not there and a password that is wrong are told apart", async (t) => {
  const url = process.env.TEST_POSTGRES_URL ?? "";
  const dataDir = { LATCHKEY_DATA_DIR: newDirectory() };
  await assertRefuses(
    t,
    { ...dataDir, DATABASE_URL: databaseUrl(url, "nowhere") },
    /"nowhere" does not exist/,
  );

  const role = "asked_for_a_password";
  const sql = openSql(url);
  try {
    await sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD '${password}'`);
    // The first line that fits counts. Everyone else is trusted, as before.
    const [hba] =
      await sql`SELECT current_setting('hba_file') AS file, pg_read_file(current_setting('hba_file')) AS lines`;
    const lines = [`local all ${role} scram-sha-256`, ...String(hba?.lines).trimEnd().split("\n")];
    const values = lines.map((line) => `('${line.replaceAll("'", "''")}')`).join(", ");
    await sql.unsafe(`COPY (SELECT * FROM (VALUES ${values}) v) TO '${hba?.file}'`);
    await sql`SELECT pg_reload_conf()`;
    const wrong = new URL(url);
    wrong.username = role;
    wrong.password = "not-the-password-either";
    const env = { ...dataDir, DATABASE_URL: wrong.href };
    const refused = () => openSqlAs(wrong);
    await until(refused, (code) => code === "28P01");
    const stderr = await assertRefuses(t, env, /28P01/, /password authentication failed/);
    assert.ok(!stderr.includes(wrong.password), stderr);
  } finally {
    await sql.end();
  }
});

/** The code with which Postgres refuses a URL's user. */
async function openSqlAs(url: URL): Promise<string | undefined> {
  const sql = openSql(url.href);
  try {
    await sql`SELECT 1`;
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  } finally {
    await sql.end();
  }
}

test("a LATCHKEY_LISTEN_DATABASE_URL that cannot be used is among what is to be checked", async (t) => {
  const port = await closedPort();
  const env = await onDatabase({
    LATCHKEY_LISTEN_DATABASE_URL: `postgres://ada:${password}@127.0.0.1:${port}/keys`,
  });
  await assertRefuses(t, env, new RegExp(`127\\.0\\.0\\.1:${port}`), /LATCHKEY_LISTEN_DATABASE_URL/);
});

for (const [name, value, message] of [
  ["PORT", "65536", /PORT must be a whole number from 0 to 65535/],
  ["LATCHKEY_REQUIRE_AUTH", "maybe", /LATCHKEY_REQUIRE_AUTH must be true or false/],
  ["LATCHKEY_DATADIR", "x", /LATCHKEY_DATADIR is not a setting\. Did you mean LATCHKEY_DATA_DIR\?/],
  ["LATCHKEY_SECRET_KEY", secretKey.slice(0, 8), /LATCHKEY_SECRET_KEY must be 16 to 512/],
  ["DATABASE_URL", `mysql://ada:${password}@db/keys`, /DATABASE_URL must be a Postgres URL/],
  ["DATABASE_URL", `postgres://ada:a/b${password}@db/keys`, /DATABASE_URL must be a Postgres URL/],
  ["DATABASE_URL", `postgres://ada:a@${password}@db/keys`, /DATABASE_URL must be a Postgres URL/],
] as const) {
  test(`the process does not start with a bad ${name} (${message.source.slice(0, 60)}), and repeats no value`, async (t) => {
    const stderr = await assertRefuses(t, { LATCHKEY_DATA_DIR: newDirectory(), [name]: value }, message);
    if (name !== "PORT" && value.length > 5) assert.ok(!stderr.includes(value), stderr);
  });
}

test("a data directory that is a file is named, with the embedded database or with another", async (t) => {
  const file = join(newDirectory(), "file");
  writeFileSync(file, "");
  await assertRefuses(t, { LATCHKEY_DATA_DIR: file }, /LATCHKEY_DATA_DIR/);
  const { DATABASE_URL = "" } = await onDatabase();
  await assertRefuses(t, { DATABASE_URL, LATCHKEY_DATA_DIR: join(file, "below") }, /LATCHKEY_DATA_DIR/);
});

function pemFiles(content: { cert?: string; key?: string } = {}): { cert: string; key: string } {
  const directory = newDirectory();
  const files = { cert: join(directory, "cert.pem"), key: join(directory, "key.pem") };
  writeFileSync(files.cert, content.cert ?? pem.cert);
  writeFileSync(files.key, content.key ?? pem.key);
  return files;
}

test("with TLS, the banner's commands work too", async (t) => {
  const files = pemFiles();
  const env = await onDatabase({ LATCHKEY_TLS_CERT: files.cert, LATCHKEY_TLS_KEY: files.key });
  const server = await start(t, env);
  assert.match(server.url, /^https:/);
  const [getUser = ""] = commandsOf(server.banner, "curl");
  assert.match(getUser, /^curl -k /);
  if (hasCurl) assert.equal((await runCurl(getUser)).username, "admin");
});

test("a certificate or key that cannot be read or used is named", async (t) => {
  const good = pemFiles();
  const bad = pemFiles({ cert: "no PEM", key: "no PEM" });
  const missing = join(newDirectory(), "missing.pem");
  for (const [cert, key, ...messages] of [
    [missing, good.key, /LATCHKEY_TLS_CERT/, /missing\.pem/],
    [good.cert, missing, /LATCHKEY_TLS_KEY/, /missing\.pem/],
    [bad.cert, good.key, /LATCHKEY_TLS_CERT/],
    [good.cert, bad.key, /LATCHKEY_TLS_KEY/],
  ] as const) {
    const env = await onDatabase({ LATCHKEY_TLS_CERT: cert, LATCHKEY_TLS_KEY: key });
    const stderr = await assertRefuses(t, env, ...messages);
    assert.ok(!stderr.includes("DATABASE_URL"), stderr);
  }
});

test("production has no secret key, no users of its own and no reflection", async (t) => {
  const env = await onDatabase({ NODE_ENV: "production" });
  const server = await start(t, env);
  assert.ok(!server.banner.includes(secretKey));
  assert.match(server.banner, /secret key\s+not accepted; latchkey bootstrap/);
  const sql = openSql(env.DATABASE_URL ?? "");
  assert.deepEqual([...(await sql`SELECT id FROM users`)], []);
  await sql.end();
  assert.ok(!existsSync(join(env.LATCHKEY_DATA_DIR ?? "", "secret-key")));
  const { users } = clientsOf(connectTransport(server.url, secretKey));
  await assert.rejects(users.getUser({ userId: 1n }), { code: Code.Unauthenticated });
  for (const version of ["v1", "v1alpha"]) {
    const path = `grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    assert.equal((await fetch(`${server.url}/${path}`, { method: "POST" })).status, 404);
  }
});

test("production refuses to start where the secret key is to be accepted", async (t) => {
  const env = await onDatabase({ NODE_ENV: "production", LATCHKEY_ACCEPT_SECRET_KEY: "true" });
  await assertRefuses(
    t,
    env,
    /LATCHKEY_ACCEPT_SECRET_KEY cannot be true with NODE_ENV=production/,
    /bootstrap/,
  );
});
