/** `latchkey serve`: settings as flags, and `--watch`. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { type Config, settings } from "../../src/config.ts";
import { newHome } from "../harness/cli.ts";
import { newDirectory, onDatabase, secretKey, spawnMain } from "../harness/server.ts";

test("a flag stands above the environment, with serve and without", async (t) => {
  const env = await onDatabase({ LATCHKEY_REQUIRE_AUTH: "false", LATCHKEY_API_KEY_HEADER: "x-other" });
  const flags = [
    "--require-auth",
    "--api-key-header",
    "x-token",
    "--reflection=false",
    "--log-level",
    "silent",
  ];
  for (const args of [["serve", ...flags], flags]) {
    const { child, exited, stdout } = spawnMain(args, env);
    t.after(() => child.kill("SIGKILL"));
    const banner = await new Promise<string>((done) => {
      stdout((text) => text.includes("x-token:") && done(text));
    });
    assert.match(banner, /authentication +required/);
    assert.ok(!banner.includes("grpcurl"));
    const [url = ""] = banner.match(/http:\/\/\S+/) ?? [];
    const response = await fetch(`${url}/latchkey.v1.ApiKeyService/ListApiKeys`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-token": secretKey },
      body: "{}",
    });
    assert.equal(response.status, 200);
    child.kill("SIGTERM");
    const { code, stderr } = await exited;
    assert.deepEqual([code, stderr], [0, ""]);
  }
});

test("what a start fails with is told with the values that flags gave", async (t) => {
  const rival = createServer().listen(0, "127.0.0.1");
  t.after(() => rival.close());
  await once(rival, "listening");
  const { port } = rival.address() as AddressInfo;
  const env = await onDatabase({ PORT: "1", HOST: "no-such-host.invalid" });
  const missing = join(newDirectory(), "missing.pem");
  const here = ["--host", "127.0.0.1"];
  for (const [args, message] of [
    [
      [...here, "--port", String(port)],
      `127.0.0.1:${port} is taken by another process: stop it, or choose another port with PORT or --port`,
    ],
    [
      [...here, "--port", String(port), "--workers", "2"],
      `127.0.0.1:${port} is taken by another process: stop it, or choose another port with PORT or --port`,
    ],
    [["--port", "0", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0 ("],
    [[...here, "--tls-cert", missing, "--tls-key", missing], "cannot read LATCHKEY_TLS_CERT ("],
    [
      [...here, "--tls-cert", missing, "--tls-key", missing, "--workers", "2"],
      "cannot read LATCHKEY_TLS_CERT (",
    ],
    [[...here, "--database-url", "postgres://ada@127.0.0.1:1/keys"], "cannot use Postgres at 127.0.0.1:1,"],
  ] as const) {
    const { code, stdout, stderr } = await spawnMain(["serve", ...args], env).exited;
    assert.deepEqual([code, stdout], [1, ""], args.join(" "));
    assert.ok(stderr.includes(`latchkey: ${message}`), `${args.join(" ")}: ${stderr}`);
  }
});

test("every setting is a flag, but the secret key; each is checked and named as it was given", async () => {
  const home = newHome({
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
    LATCHKEY_DATA_DIR: newDirectory(),
  });
  const { stdout } = await home.latchkey(["serve", "--help"]);
  for (const { env, field } of settings) {
    const flag = `--${env.replace("LATCHKEY_", "").toLowerCase().replaceAll("_", "-")}`;
    assert.equal(stdout.includes(`${flag} `), (field satisfies keyof Config) !== "secretKey", flag);
  }
  const secret = "0123456789abcdef-secret";
  await Promise.all(
    (
      [
        [["--port", "65536"], /--port must be a whole number from 0 to 65535/],
        [["--require-auth", "maybe"], /--require-auth must be true or false/],
        [["--usage-durability", "often"], /--usage-durability must be batched or strict/],
        [["--prot", "1"], /unknown option '--prot'/],
        [["--secret-key", secret], /--secret-key with a secret is not taken.*Set LATCHKEY_SECRET_KEY/],
        [
          ["--database-url", `postgres://ada:${secret}@db/keys`],
          /--database-url with a secret.*Set DATABASE_URL/,
        ],
        [["--database-url", `mysql://ada:${secret}@db/keys`], /--database-url/],
      ] as const
    ).map(async ([args, message]) => {
      const outcome = await home.latchkey(["serve", ...args]);
      assert.deepEqual([outcome.code, outcome.stdout], [2, ""], outcome.stderr);
      assert.match(outcome.stderr, message);
      assert.match(outcome.stderr, /Usage: latchkey serve/);
      assert.ok(!outcome.stderr.includes(secret), outcome.stderr);
    }),
  );
});

test("what the other commands read from the environment is in no server's way", async () => {
  const home = newHome({
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
    LATCHKEY_DATA_DIR: newDirectory(),
    LATCHKEY_SERVER: "http://127.0.0.1:1",
    LATCHKEY_TOKEN: "some-token-of-a-client",
    LATCHKEY_PROFILE: "staging",
  });
  const { code, stderr } = await home.latchkey(["serve"]);
  assert.equal(code, 1);
  assert.match(stderr, /cannot use Postgres at 127\.0\.0\.1:1/);
  assert.ok(!stderr.includes("some-token"));
});

test("--watch starts the server again when a file of it changes, and stops with it", async (t) => {
  // A program of its own to change.
  const copy = newDirectory();
  for (const name of ["src", "drizzle", "package.json"]) cpSync(name, join(copy, name), { recursive: true });
  symlinkSync(resolve("node_modules"), join(copy, "node_modules"));
  const env = { ...(await onDatabase()), LATCHKEY_LOG_LEVEL: "silent" };
  const home = newHome(env);
  const started = home.startShell(`exec '${process.execPath}' '${join(copy, "src/main.ts")}' serve --watch`);
  t.after(() => started.child.kill("SIGKILL"));
  const starts = () => started.stdout().match(/is listening/g)?.length ?? 0;
  await started.printed(() => starts() === 1);
  const banner = join(copy, "src/cli/banner.ts");
  writeFileSync(
    banner,
    readFileSync(banner, "utf8").replace("Latchkey is listening", "Changed, it is listening"),
  );
  await started.printed(() => starts() === 2);
  assert.match(started.stdout(), /Changed, it is listening/);
  started.child.kill("SIGTERM");
  const { code, stderr } = await started.exited;
  assert.equal(code, 0, stderr);
  const production = await home.latchkey(["serve", "--watch"], {
    env: { NODE_ENV: "production", LATCHKEY_SECRET_KEY: "" },
  });
  assert.equal(production.code, 2);
  assert.match(production.stderr, /--watch is for development/);
});
