/** Who the command is: `login`, `logout`, `whoami`, `profiles`, and where a token is taken from. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { type Home, jsonLines, newHome, tableRows } from "../harness/cli.ts";
import { pem } from "../harness/pem.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  createUserAndKey,
  newDirectory,
  secretKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";

let server: TestServer;
let ada: { userId: bigint; apiKeyId: string; token: string };
before(async () => {
  server = await startServer();
  ada = await createUserAndKey(server.asStaff, "ada");
});
after(() => server.close());

const profileOf = (home: Home, name = "default") =>
  join(home.directory, ".config/latchkey/profiles", `${name}.json`);

test("login keeps a token that is good, for its owner alone, and commands use it from then on", async () => {
  const home = newHome();
  const { code, stdout, stderr } = await home.latchkey(["login", "--server", server.url], {
    input: `${ada.token}\n`,
  });
  assert.deepEqual([code, stdout], [0, ""], stderr);
  assert.match(
    stderr,
    new RegExp(`^Logged in to ${server.url} as ada \\(user ${ada.userId}\\)\\. The token is kept in /`),
  );
  assert.ok(!stderr.includes(ada.token));
  const file = profileOf(home);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(statSync(join(file, "..")).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(join(file, "..")), ["default.json"], "no draft is left");
  const who = await home.latchkey(["whoami"]);
  assert.deepEqual([who.code, who.stderr], [0, ""]);
  assert.match(
    who.stdout,
    new RegExp(
      `^server +${server.url}\nuser +ada \\(${ada.userId}\\)\nstaff +no\ncredential +api-key\nkey +key of ada `,
    ),
  );
  const [session] = jsonLines((await home.latchkey(["whoami", "--json"])).stdout);
  assert.deepEqual([session?.username, session?.isStaff], ["ada", false]);
});

test("login keeps no token that is refused, and none where nobody answers", async () => {
  const home = newHome();
  const unknown = noteSecret("nobody-knows-this-token");
  for (const [args, input, code, message] of [
    [["--server", server.url], unknown, 3, /invalid API key/],
    [["--server", server.url], "", 3, /standard input holds no token/],
    [["--server", server.url], `${unknown}\n${unknown}\n`, 3, /does not hold a token alone/],
    [["--server", "http://127.0.0.1:1"], unknown, 6, /ECONNREFUSED/],
    [["--server", "127.0.0.1:50051"], unknown, 2, /must be a URL/],
    [["--server", "https://ada:pw@example.com"], unknown, 2, /must hold no user, password/],
    [["--profile", "../up"], unknown, 2, /the name of a profile/],
  ] as const) {
    const outcome = await home.latchkey(["login", ...args], { input });
    assert.deepEqual([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
    assert.match(outcome.stderr, message);
    assert.ok(!outcome.stderr.includes(unknown));
  }
  assert.ok(!existsSync(join(home.directory, ".config")));
});

test("a key that is limited to other methods can log in", async () => {
  const { token } = await server.asStaff.keys.createApiKey({
    userId: 2n,
    name: "narrow",
    allowedMethods: ["api.users.*"],
  });
  const { code, stderr } = await newHome().latchkey(["login", "--server", server.url], {
    input: noteSecret(token),
  });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /may not/);
});

test("several logins stand beside each other, and are forgotten one by one or together", async () => {
  const home = newHome({ XDG_CONFIG_HOME: newDirectory() });
  for (const [name, token] of [
    ["default", ada.token],
    ["admin", secretKey],
  ] as const) {
    const outcome = await home.latchkey(["login", "--server", server.url, "--profile", name], {
      input: token,
    });
    assert.equal(outcome.code, 0, outcome.stderr);
  }
  assert.ok(!existsSync(join(home.directory, ".config")), "XDG_CONFIG_HOME stands above ~/.config");
  const username = async (args: string[], env = {}) =>
    jsonLines((await home.latchkey(["whoami", "--json", ...args], { env })).stdout)[0]?.username;
  assert.equal(await username([]), "ada");
  assert.equal(await username(["--profile", "admin"]), "admin");
  assert.equal(await username([], { LATCHKEY_PROFILE: "admin" }), "admin");
  const listed = await home.latchkey(["profiles"], { env: { LATCHKEY_PROFILE: "admin" } });
  assert.deepEqual(tableRows(listed.stdout), [
    { NAME: "admin", SERVER: server.url, CURRENT: "yes" },
    { NAME: "default", SERVER: server.url, CURRENT: "-" },
  ]);
  const out = await home.latchkey(["logout", "--profile", "admin"]);
  assert.deepEqual([out.code, out.stdout, out.stderr], [0, "", "Logged out of admin.\n"]);
  const gone = await home.latchkey(["whoami", "--profile", "admin"]);
  assert.equal(gone.code, 3);
  assert.match(gone.stderr, /there is no profile admin: latchkey login --profile admin/);
  assert.equal((await home.latchkey(["logout", "--profile", "admin"])).code, 5);
  assert.equal((await home.latchkey(["logout", "--all"])).code, 0);
  assert.equal((await home.latchkey(["profiles", "--json"])).stdout, "");
  const [key] = (await server.as(ada.token).keys.listApiKeys({})).apiKeys;
  assert.ok(key, "the key itself lives on");
});

test("a profile that others can read, or that is damaged, is not used", async () => {
  const home = newHome();
  await home.latchkey(["login", "--server", server.url], { input: ada.token });
  chmodSync(profileOf(home), 0o644);
  const open = await home.latchkey(["whoami"]);
  assert.deepEqual([open.code, open.stdout], [1, ""]);
  assert.match(open.stderr, /can be read by others .*chmod 600/);
  chmodSync(profileOf(home), 0o600);
  writeFileSync(profileOf(home), `{"token": "${ada.token}"`);
  const damaged = await home.latchkey(["whoami"]);
  assert.equal(damaged.code, 1);
  assert.match(damaged.stderr, /is damaged: log in again/);
  assert.ok(!damaged.stderr.includes(ada.token));
  const anew = await home.latchkey(["login", "--server", server.url], { input: ada.token });
  assert.equal(anew.code, 0, anew.stderr);
  assert.equal(statSync(profileOf(home)).mode & 0o777, 0o600);
});

test("the nearer source of a token and a server wins", async () => {
  const home = newHome();
  await home.latchkey(["login", "--server", server.url], { input: ada.token });
  const bob = await createUserAndKey(server.asStaff, "bob");
  const eve = await createUserAndKey(server.asStaff, "eve");
  writeFileSync(join(home.directory, "bob"), `${bob.token}\n`);
  writeFileSync(join(home.directory, "eve"), eve.token);
  const username = async (args: string[], env: Record<string, string> = {}) => {
    const { stdout, stderr } = await home.latchkey(["whoami", "--json", ...args], { env });
    return jsonLines(stdout)[0]?.username ?? stderr;
  };
  assert.equal(await username([]), "ada");
  assert.equal(await username([], { LATCHKEY_TOKEN: secretKey }), "admin");
  assert.equal(await username([], { LATCHKEY_TOKEN_FILE: "bob" }), "bob");
  assert.equal(await username(["--token-file", "eve"], { LATCHKEY_TOKEN_FILE: "bob" }), "eve");
  assert.equal(await username(["--profile", "default"], { LATCHKEY_TOKEN: secretKey }), "ada");
  assert.equal(await username(["--server", server.url], { LATCHKEY_SERVER: "http://127.0.0.1:1" }), "ada");
  const both = await home.latchkey(["whoami"], {
    env: { LATCHKEY_TOKEN: secretKey, LATCHKEY_TOKEN_FILE: "bob" },
  });
  assert.equal(both.code, 2);
  const missing = await home.latchkey(["whoami", "--token-file", "nowhere"]);
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /cannot read the token/);
});

/** A server that answers everything with an error, and keeps the headers that it was sent. */
async function startListener(
  t: TestContext,
): Promise<{ url: string; headers: IncomingMessage["headers"][] }> {
  const headers: IncomingMessage["headers"][] = [];
  const listener = createServer((request, response) => {
    headers.push(request.headers);
    response.writeHead(500).end();
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => listener.once("listening", resolve));
  t.after(() => listener.close());
  return { url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`, headers };
}

test("a profile's token goes to the profile's server and to no other", async (t) => {
  const other = await startListener(t);
  const home = newHome();
  await home.latchkey(["login", "--server", server.url], { input: ada.token });
  const unnamed = await home.latchkey(["keys", "list", "--server", other.url]);
  assert.equal(unnamed.code, 3);
  assert.match(unnamed.stderr, /there is no token for/);
  const named = await home.latchkey(["keys", "list", "--server", other.url, "--profile", "default"]);
  assert.equal(named.code, 3);
  assert.match(named.stderr, /is not sent to/);
  assert.deepEqual(other.headers, []);
});

test("a token goes in cleartext to this machine alone, unless it is told to", async () => {
  const home = newHome({ LATCHKEY_TOKEN: ada.token });
  // Nobody is there: what is refused is refused before a name is looked up.
  const urls = [
    "http://keys.invalid",
    "http://192.0.2.1:50051",
    "http://localhost.keys.invalid",
    "http://[2001:db8::1]",
  ];
  const commands = [["keys", "list"], ["call", "a.B/C"], ["whoami"]];
  await Promise.all(
    urls.flatMap((url) =>
      commands.map(async (args) => {
        const { code, stdout, stderr } = await home.latchkey([...args, "--server", url]);
        assert.deepEqual([code, stdout], [1, ""], url);
        assert.match(stderr, /in cleartext.*use https, or give --allow-cleartext/, url);
      }),
    ),
  );
  const login = await home.latchkey(["login", "--server", "http://keys.invalid"], { input: ada.token });
  assert.match(login.stderr, /in cleartext/);
  const told = await home.latchkey(["whoami", "--server", "http://keys.invalid", "--allow-cleartext"]);
  assert.equal(told.code, 6);
  assert.match(told.stderr, /ENOTFOUND|EAI_AGAIN/);
  const { port } = server;
  for (const url of [`http://localhost:${port}`, `http://127.1:${port}`]) {
    assert.equal((await home.latchkey(["whoami", "--server", url])).code, 0, url);
  }
});

test("a token is never taken as an argument, wherever it stands", async () => {
  const home = newHome({ LATCHKEY_SERVER: server.url });
  for (const args of [
    ["login", ada.token],
    ["keys", "list", "--token", "whatever-it-is"],
    ["login", "--token", "whatever-it-is"],
    ["keys", "list", `--token=${ada.token}`],
    ["keys", "verify", ada.token],
    ["call", "latchkey.v1.ApiKeyService/VerifyApiKey", `{"token":"${ada.token}"}`],
  ]) {
    const { code, stdout, stderr } = await home.latchkey(args);
    assert.deepEqual([code, stdout], [2, ""], stderr);
    assert.match(stderr, /a token is never taken as an argument.*--token-file.*revoke/s);
    assert.ok(!stderr.includes(ada.token) && !stderr.includes("whatever"), stderr);
  }
});

test("a certificate that is not the system's is trusted where --ca-file says so", async (t) => {
  const directory = newDirectory();
  const [cert, key] = (["cert", "key"] as const).map((name) => {
    writeFileSync(join(directory, name), pem[name]);
    return join(directory, name);
  });
  const secure = await startServer({ tlsCert: cert, tlsKey: key });
  t.after(() => secure.close());
  const home = newHome();
  const at = ["--server", secure.url];
  const distrusted = await home.latchkey(["login", ...at], { input: secretKey });
  assert.equal(distrusted.code, 6);
  assert.match(distrusted.stderr, /is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\): --ca-file/);
  const trusted = await home.latchkey(["login", ...at, "--ca-file", cert ?? ""], { input: secretKey });
  assert.equal(trusted.code, 0, trusted.stderr);
  assert.equal((await home.latchkey(["whoami"])).code, 0, "kept with the login");
  const call = await home.latchkey(["call", "api.users.UserService/GetUser", '{"userId":1}']);
  assert.equal(call.code, 0, call.stderr);
  assert.ok(!readFileSync(profileOf(home), "utf8").includes(pem.cert));
});

test("what is no Latchkey server is told so", async (t) => {
  const other = await startListener(t);
  const { code, stdout, stderr } = await newHome({ LATCHKEY_TOKEN: ada.token }).latchkey([
    ...["whoami", "--server", other.url],
  ]);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /HTTP 500/);
  assert.match(other.headers[0]?.["user-agent"] ?? "", /^latchkey\/\d/);
});
