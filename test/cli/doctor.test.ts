/** `latchkey doctor`: each thing that can be wrong is made wrong, and told with what to do. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { type Home, jsonLines, newHome } from "../harness/cli.ts";
import { pem } from "../harness/pem.ts";
import { createTestDatabase, databaseUrl, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  newDirectory,
  onDatabase,
  secretKey,
  spawnServer,
  startServer,
  type TestServer,
} from "../harness/server.ts";

let server: TestServer;
let home: Home;
before(async () => {
  server = await startServer();
  home = newHome();
});
after(() => server.close());

type Findings = Record<string, { state: string; found: string; advice?: string }>;

async function examine(env: Record<string, string>, args: string[] = []) {
  const { code, stdout, stderr } = await home.latchkey(["doctor", "--json", ...args], { env });
  const findings = Object.fromEntries(jsonLines(stdout).map((finding) => [String(finding.what), finding]));
  return { code, stderr, findings: findings as unknown as Findings };
}

/** Asserts that one thing is found wrong, or to be warned of, and nothing else wrong. */
async function assertFound(
  env: Record<string, string>,
  what: string,
  state: "warning" | "wrong",
  ...messages: RegExp[]
): Promise<void> {
  const { code, findings } = await examine(env);
  const shown = JSON.stringify(findings);
  assert.equal(findings[what]?.state, state, shown);
  for (const message of messages)
    assert.match(`${findings[what]?.found}\n${findings[what]?.advice}`, message);
  assert.equal(code, state === "wrong" ? 1 : 0, shown);
  for (const [name, found] of Object.entries(findings)) {
    assert.ok(name === what || found.state !== "wrong", `${name}: ${shown}`);
  }
}

test("where all is well it says so, thing by thing, and exits with 0", async () => {
  const env = {
    DATABASE_URL: server.databaseUrl,
    LATCHKEY_DATA_DIR: newDirectory(),
    LATCHKEY_SERVER: server.url,
    LATCHKEY_TOKEN: secretKey,
    PORT: String(server.port),
  };
  const { code, findings } = await examine(env);
  assert.equal(code, 0, JSON.stringify(findings));
  assert.deepEqual(Object.keys(findings), [
    ...[
      "versions",
      "settings",
      "database",
      "migrations",
      "clock",
      "connections",
      "instances",
      "news",
      "port",
    ],
    ...["server", "token", "server version"],
  ]);
  for (const [name, { state }] of Object.entries(findings)) assert.equal(state, "ok", name);
  assert.match(findings.token?.found ?? "", /signs in admin, staff/);
  assert.match(findings.port?.found ?? "", /a server answers/);
  const people = await home.latchkey(["doctor"], { env });
  assert.deepEqual([people.code, people.stderr], [0, ""]);
  assert.match(people.stdout, /^ok +versions +Latchkey \d+\.\d+\.\d+, Node v\d+/);
  assert.match(people.stdout, /^ok +database +Postgres at .*, Postgres \d+/m);
});

test("nothing is made in an empty folder, where all is well too", async () => {
  const dataDir = join(newDirectory(), "none");
  const { code, findings } = await examine({ LATCHKEY_DATA_DIR: dataDir, PORT: "0" });
  assert.equal(code, 0, JSON.stringify(findings));
  assert.match(
    findings.database?.found ?? "",
    /none yet in .*: the first latchkey serve makes one, with Postgres \d+/,
  );
  assert.ok(!existsSync(dataDir));
});

test("an embedded database is looked at while its server runs on it, and left alone", async (t) => {
  const dataDir = newDirectory();
  const running = await spawnServer({ LATCHKEY_DATA_DIR: dataDir });
  t.after(() => running.child.kill("SIGKILL"));
  noteSecret(readFileSync(join(dataDir, "secret-key"), "utf8").trim());
  const { code, findings } = await examine({
    LATCHKEY_DATA_DIR: dataDir,
    PORT: "0",
    LATCHKEY_SERVER: running.url,
  });
  assert.equal(code, 0, JSON.stringify(findings));
  assert.match(findings.database?.found ?? "", /^Postgres \d+\.\d+ in .*, process \d+$/);
  assert.equal(findings.migrations?.state, "ok");
  running.child.kill("SIGTERM");
  assert.equal((await running.exited).code, 0);
  const stopped = await examine({ LATCHKEY_DATA_DIR: dataDir, PORT: "0" });
  assert.match(
    stopped.findings.database?.found ?? "",
    /^Postgres \d+ in .*, which does not run: latchkey serve starts it$/,
  );
});

test("settings that cannot be used are named, and what needs none of them is looked at all the same", async () => {
  const env = { LATCHKEY_DATADIR: "x", LATCHKEY_SERVER: server.url };
  await assertFound(
    env,
    "settings",
    "wrong",
    /LATCHKEY_DATADIR is not a setting\. Did you mean/,
    /serve --help/,
  );
  assert.equal((await examine(env)).findings.server?.state, "ok");
});

test("a database that does not answer, or is none, is named without its password", async () => {
  const password = noteSecret("a-password-of-nobody");
  const dataDir = newDirectory();
  for (const url of [
    `postgres://ada:${password}@127.0.0.1:1/keys`,
    `postgres://ada:${password}@no-such-host.invalid/keys`,
    databaseUrl(process.env.TEST_POSTGRES_URL ?? "", "nowhere"),
  ]) {
    const env = { DATABASE_URL: url, LATCHKEY_DATA_DIR: dataDir, PORT: "0" };
    await assertFound(
      env,
      "database",
      "wrong",
      /cannot use Postgres at .* database (keys|nowhere)/,
      /DATABASE_URL/,
    );
    assert.ok(!JSON.stringify(await examine(env)).includes(password));
  }
});

test("a data directory that is no folder is named", async () => {
  const file = join(newDirectory(), "file");
  writeFileSync(file, "");
  await assertFound({ LATCHKEY_DATA_DIR: file, PORT: "0" }, "database", "wrong", /LATCHKEY_DATA_DIR/);
});

async function emptyDatabase(): Promise<string> {
  const url = await createTestDatabase();
  const name = `empty_${new URL(url).pathname.slice(1)}`;
  const sql = openSql(url);
  await sql.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  await sql.end();
  return databaseUrl(url, name);
}

test("migrations that are missing, and those of a newer version, are told apart", async () => {
  const env = { LATCHKEY_DATA_DIR: newDirectory(), PORT: "0" };
  const empty = { ...env, DATABASE_URL: await emptyDatabase() };
  await assertFound(
    empty,
    "migrations",
    "warning",
    /^0 of \d+ applied/,
    /the next latchkey serve applies the rest/,
  );
  const newer = { ...env, DATABASE_URL: await createTestDatabase() };
  const sql = openSql(newer.DATABASE_URL);
  await sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('later', 9999999999999)`;
  await sql.end();
  await assertFound(newer, "migrations", "wrong", /a newer Latchkey than \d/, /newer one/);
});

for (const [shift, state] of [
  ["5 s", "warning"],
  ["-1 hour", "wrong"],
] as const) {
  test(`a clock that is off by ${shift} is found: ${state}`, async () => {
    const DATABASE_URL = await createTestDatabase();
    const sql = openSql(DATABASE_URL);
    const name = new URL(DATABASE_URL).pathname.slice(1);
    await sql.unsafe(`
      CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
      AS $$ SELECT pg_catalog.clock_timestamp() + interval '${shift}' $$`);
    await sql.unsafe(`ALTER DATABASE ${name} SET search_path = public, pg_catalog`);
    await sql.end();
    await assertFound({ DATABASE_URL, LATCHKEY_DATA_DIR: newDirectory(), PORT: "0" }, "clock", state, /NTP/);
  });
}

test("that nobody is staff, and that other versions run, is warned of", async () => {
  const DATABASE_URL = await createTestDatabase();
  const env = { DATABASE_URL, LATCHKEY_DATA_DIR: newDirectory(), PORT: "0" };
  await assertFound(env, "users", "warning", /no staff user is active/, /latchkey bootstrap/);
  const sql = openSql(DATABASE_URL);
  await sql`
    INSERT INTO instances (id, hostname, pid, version, started_at, seen_at)
    VALUES (gen_random_uuid(), 'elsewhere', 1, '0.0.1', now(), now())`;
  await sql.end();
  await assertFound(env, "instances", "warning", /version 0\.0\.1 run, this is \d/, /one version/);
});

async function listen(t: TestContext, answer: string): Promise<number> {
  const other = createServer((_, response) => response.end(answer)).listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  t.after(() => other.close());
  return (other.address() as AddressInfo).port;
}

test("a port that another program has, and an address that is not this machine's, are named", async (t) => {
  const env = await onDatabase();
  const port = await listen(t, "hello");
  await assertFound({ ...env, PORT: String(port) }, "port", "wrong", /taken by another process/, /PORT/);
  await assertFound(
    { ...env, PORT: "0", HOST: "192.0.2.1" },
    "port",
    "wrong",
    /cannot listen on 192\.0\.2\.1/,
    /HOST/,
  );
});

test("certificates that do not fit, and a secret key that others can read, are named", async () => {
  const directory = newDirectory();
  const [cert, key] = (["cert", "key"] as const).map((name) => {
    writeFileSync(join(directory, name), pem[name]);
    return join(directory, name);
  }) as [string, string];
  const env = await onDatabase({ PORT: "0" });
  const good = await examine({ ...env, LATCHKEY_TLS_CERT: cert, LATCHKEY_TLS_KEY: key });
  assert.match(good.findings.TLS?.found ?? "", /good until 2120-/);
  await assertFound(
    { ...env, LATCHKEY_TLS_CERT: key, LATCHKEY_TLS_KEY: cert },
    "TLS",
    "wrong",
    /of one pair/,
  );
  const file = join(env.LATCHKEY_DATA_DIR ?? "", "secret-key");
  writeFileSync(file, "sk_of_nobody_but_long_enough\n");
  chmodSync(file, 0o644);
  await assertFound(env, "secret key", "wrong", /can be read by others/, /chmod 600/);
});

test("a server that was named and does not serve, and a token that is refused, are named", async (t) => {
  const env = { ...(await onDatabase()), PORT: "0" };
  await assertFound(
    { ...env, LATCHKEY_SERVER: "http://127.0.0.1:1" },
    "server",
    "wrong",
    /does not answer/,
    /--server/,
  );
  const other = `http://127.0.0.1:${await listen(t, "hello")}`;
  await assertFound({ ...env, LATCHKEY_SERVER: other }, "server", "wrong", /\w/);
  const at = { ...env, LATCHKEY_SERVER: server.url };
  await assertFound(
    { ...at, LATCHKEY_TOKEN: "nobody-knows-this" },
    "token",
    "wrong",
    /invalid API key/,
    /latchkey login/,
  );
  await assertFound(at, "token", "warning", /none for/, /latchkey login/);
});
