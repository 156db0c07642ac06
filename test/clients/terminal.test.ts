/** Commands at a real terminal: what is typed, asked, coloured and told of meanwhile. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { noteSecret } from "../harness/secrets.ts";
import {
  createUserAndKey,
  newDirectory,
  secretKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { type Answer, atTerminal } from "./at-terminal.ts";

let server: TestServer;
let home: string;
before(async () => {
  server = await startServer();
  home = newDirectory();
});
after(() => server.close());

const latchkey = (args: string[], answers: readonly Answer[], env: Record<string, string> = {}) =>
  atTerminal([process.execPath, resolve("src/main.ts"), ...args], answers, {
    PATH: process.env.PATH,
    HOME: home,
    TERM: "xterm",
    LATCHKEY_SERVER: server.url,
    ...env,
  });

test("login reads a token without showing it", async () => {
  const { token } = await createUserAndKey(server.asStaff, "typist");
  const { code, screen } = await latchkey(["login"], [["Token for http", `${token}\r`]]);
  assert.equal(code, 0, screen);
  assert.ok(!screen.includes(token), "it is not echoed");
  assert.match(screen, /Logged in to .* as typist/);
});

test("login that is interrupted keeps nothing, and leaves the terminal as it was", async () => {
  const { code, screen } = await latchkey(["login", "--profile", "none"], [["Token for http", "abc\u0003"]]);
  assert.equal(code, 130, screen);
  assert.match(screen, /nothing was done/);
  assert.ok(!existsSync(join(home, ".config/latchkey/profiles/none.json")));
});

test("what cannot be undone is asked, and done for yes alone", async () => {
  const env = { LATCHKEY_TOKEN: secretKey };
  const { apiKey, token } = await server.asStaff.keys.createApiKey({ userId: 2n, name: "asked" });
  noteSecret(token);
  const id = apiKey?.id ?? "";
  const isRevoked = async () => (await server.asStaff.keys.getApiKey({ id })).apiKey?.revokedAt !== undefined;
  for (const answer of ["n\r", "\r", "\u0004", "yes please\r"]) {
    const { code, screen } = await latchkey(["keys", "revoke", id], [["[y/N] ", answer]], env);
    assert.notEqual(code, 0, screen);
    assert.match(screen, /Revoke asked \(lk_.*for good\? \[y\/N\].*nothing was done/s);
    assert.equal(await isRevoked(), false);
  }
  const { code, screen } = await latchkey(["keys", "revoke", id], [["[y/N] ", "y\r"]], env);
  assert.equal(code, 0, screen);
  assert.equal(await isRevoked(), true);
});

test("a terminal is shown colours, and none with NO_COLOR or where it has none", async () => {
  const env = { LATCHKEY_TOKEN: secretKey };
  const bold = "\u001b[1m";
  assert.ok((await latchkey(["users", "list"], [], env)).screen.includes(bold));
  for (const without of [{ NO_COLOR: "1" }, { TERM: "dumb" }, { NO_COLOR: "1", FORCE_COLOR: "1" }] as Record<
    string,
    string
  >[]) {
    const { screen } = await latchkey(["users", "list"], [], { ...env, ...without });
    assert.ok(!screen.includes("\u001b"), JSON.stringify(without));
  }
});

test("a wait of more than a second is told of, and what was told is taken away again", async (t) => {
  const slow = createServer((_, response) => setTimeout(() => response.writeHead(500).end(), 2500));
  await new Promise<void>((listening) => slow.listen(0, "127.0.0.1", listening));
  t.after(() => slow.close());
  const { port } = slow.address() as AddressInfo;
  const env = { LATCHKEY_TOKEN: secretKey, LATCHKEY_SERVER: `http://127.0.0.1:${port}` };
  const { screen } = await latchkey(["whoami"], [], env);
  assert.match(screen, /asking who calls… 1 s/);
  assert.ok(screen.includes("s\r\u001b[Klatchkey: "), "cleared before the error");
  const quick = await latchkey(["users", "list"], [], { LATCHKEY_TOKEN: secretKey });
  assert.ok(!quick.screen.includes("…"), quick.screen);
});

test("call shows answers indented to people", async () => {
  const { screen } = await latchkey(["call", "api.users.UserService/GetUser", '{"userId":1}'], []);
  assert.match(screen, /\{\r\n {2}"id": "1",\r\n/);
});
