/** The console's files over HTTP: what is served, how it may be kept, and what the page may do. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from "node:zlib";
import Fastify, { type FastifyInstance } from "fastify";
import { createApp } from "../../src/app.ts";
import { withDefaults } from "../../src/config.ts";
import { serveConsole } from "../../src/console/plugin.ts";
import { newDirectory, startServer } from "../harness/server.ts";
import { send } from "./browser.ts";

const script = "export const answer = 42;\n".repeat(100);
const page = `<!doctype html>
<meta property="csp-nonce" nonce="__CSP_NONCE__">
<script type="module" src="/console/assets/index-a1b2c3d4.js" nonce="__CSP_NONCE__"></script>
`;

let app: FastifyInstance;
let url: string;
let files: string;

before(async () => {
  const parent = newDirectory();
  files = join(parent, "app");
  mkdirSync(join(files, "assets"), { recursive: true });
  writeFileSync(join(parent, "secret.txt"), "not to be served");
  writeFileSync(join(files, ".env"), "not to be served");
  writeFileSync(join(files, "index.html"), page);
  writeFileSync(join(files, "icon.svg"), "<svg/>");
  writeFileSync(join(files, "assets/index-a1b2c3d4.js"), script);
  writeFileSync(join(files, "assets/index-a1b2c3d4.js.br"), brotliCompressSync(script));
  writeFileSync(join(files, "assets/index-a1b2c3d4.js.gz"), gzipSync(script));
  app = Fastify();
  await serveConsole(app, files);
  url = await app.listen({ port: 0 });
});
after(() => app.close());

const get = (path: string, headers: Record<string, string> = {}) => send(`${url}${path}`, { headers });

test("every place within the console is the page, which no cache keeps", async () => {
  for (const path of [
    "/console",
    "/console/",
    "/console/keys",
    "/console/keys/01890a5d?tab=calls",
    "/console/index.html",
  ]) {
    const { status, headers, body } = await get(path);
    assert.equal(status, 200, path);
    assert.equal(headers["content-type"], "text/html; charset=utf-8");
    assert.equal(headers["cache-control"], "no-store");
    assert.match(body, /<!doctype html>/);
  }
});

test("the page runs our own scripts and no other, and nobody frames it", async () => {
  const { headers } = await get("/console/");
  const policy = new Map(
    headers["content-security-policy"]
      ?.toString()
      .split("; ")
      .map((part) => {
        const [name = "", ...values] = part.split(" ");
        return [name, values.join(" ")];
      }),
  );
  assert.equal(policy.get("default-src"), "'none'");
  assert.equal(policy.get("script-src"), "'self'");
  assert.match(policy.get("style-src") ?? "", /^'self' 'nonce-[A-Za-z0-9+/]{22}=='$/);
  assert.equal(policy.get("connect-src"), "'self'");
  assert.equal(policy.get("frame-ancestors"), "'none'");
  assert.equal(policy.get("base-uri"), "'none'");
  assert.equal(policy.get("form-action"), "'none'");
  assert.ok(![...policy.values()].join(" ").match(/unsafe|\*|http/));
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["x-frame-options"], "DENY");
  assert.equal(headers["referrer-policy"], "same-origin");
  assert.equal(headers["cross-origin-opener-policy"], "same-origin");
  assert.equal(headers["cross-origin-resource-policy"], "same-origin");
});

test("each response has a nonce of its own, the same in header and page", async () => {
  const nonces = new Set<string>();
  for (let i = 0; i < 5; i++) {
    const { headers, body } = await get("/console/");
    const [, nonce = ""] = headers["content-security-policy"]?.toString().match(/'nonce-([^']+)'/) ?? [];
    assert.equal(body, page.replaceAll("__CSP_NONCE__", nonce));
    nonces.add(nonce);
  }
  assert.equal(nonces.size, 5);
});

test("an asset is kept for a year, compressed as the browser takes it, and not sniffed", async () => {
  const path = "/console/assets/index-a1b2c3d4.js";
  for (const [accepted, encoding, decode] of [
    ["br, gzip", "br", brotliDecompressSync],
    ["gzip", "gzip", gunzipSync],
    ["identity", undefined, (plain: Buffer) => plain],
  ] as const) {
    const response = await app.inject({ url: path, headers: { "accept-encoding": accepted } });
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers["content-encoding"], encoding);
    assert.match(String(response.headers["content-type"]), /^(text|application)\/javascript/);
    assert.equal(response.headers["cache-control"], "public, max-age=31536000, immutable");
    assert.equal(response.headers["x-content-type-options"], "nosniff");
    assert.match(String(response.headers.vary), /accept-encoding/i);
    assert.equal(decode(response.rawPayload).toString(), script);
  }
});

test("another file is asked for again each time, and not sent where it is the same", async () => {
  const { headers, status } = await get("/console/icon.svg");
  assert.equal(status, 200);
  assert.equal(headers["cache-control"], "no-cache");
  assert.match(headers["content-security-policy"]?.toString() ?? "", /^default-src 'none'/);
  const again = await get("/console/icon.svg", { "if-none-match": headers.etag ?? "" });
  assert.equal(again.status, 304);
});

test("a file that is not there, hidden, or outside is not found", async () => {
  for (const path of [
    "/console/assets/gone-00000000.js",
    "/console/.env",
    "/console/../secret.txt",
    "/console/..%2fsecret.txt",
    "/console/%2e%2e/secret.txt",
    "/console/assets/..%2f..%2fsecret.txt",
    "/console/..%5csecret.txt",
    "/console//etc/passwd.txt",
  ]) {
    const { status, body } = await get(path);
    assert.ok([400, 403, 404].includes(status), `${path}: ${status}`);
    assert.ok(!body.includes("not to be served"), path);
  }
});

test("the console changes nothing: it answers GET and HEAD alone", async () => {
  for (const method of ["POST", "PUT", "DELETE"]) {
    assert.equal((await send(`${url}/console/`, { method })).status, 404);
  }
  const head = await send(`${url}/console/`, { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(head.body, "");
});

test("a new build is served without a restart; without one, the answer says what to do", async () => {
  const renewed = page.replace("a1b2c3d4", "e5f6a7b8");
  writeFileSync(join(files, "index.html"), renewed);
  assert.match((await get("/console/")).body, /e5f6a7b8/);
  rmSync(join(files, "index.html"));
  const { status, body, headers } = await get("/console/keys");
  assert.equal(status, 503);
  assert.match(body, /npm run build:console/);
  assert.match(headers["content-type"] ?? "", /^text\/plain/);
  writeFileSync(join(files, "index.html"), page);
});

test("a build that is older than a source is told in the log at the start", async () => {
  const parent = newDirectory();
  const built = join(parent, "built");
  const sources = join(parent, "sources");
  const generated = join(parent, "generated");
  const index = join(built, "index.html");
  const source = join(sources, "pages/keys/keys.tsx");
  const message = join(generated, "key_pb.js");
  mkdirSync(built);
  mkdirSync(join(sources, "pages/keys"), { recursive: true });
  mkdirSync(generated);
  for (const file of [source, message]) writeFileSync(file, "");

  const warnings = async (folders = [sources, generated]) => {
    const lines: string[] = [];
    const own = Fastify({ logger: { level: "warn", stream: { write: (line: string) => lines.push(line) } } });
    await serveConsole(own, built, folders);
    await own.close();
    return lines.map((line) => JSON.parse(line).msg as string);
  };
  const at = (file: string, seconds: number) => utimesSync(file, seconds, seconds);

  assert.deepEqual(await warnings(), [], "not built");
  writeFileSync(index, page);
  for (const file of [source, message]) at(file, 1_000);
  at(index, 2_000);
  assert.deepEqual(await warnings(), [], "newer");
  for (const file of [source, message]) {
    at(file, 3_000);
    const told = await warnings();
    assert.equal(told.length, 1);
    assert.match(told[0] ?? "", /npm run build:console/);
    assert.deepEqual(await warnings([join(parent, "gone")]), [], "an installed package");
    at(file, 1_000);
  }
});

test("a server's / leads to the console, unless something is mounted there", async () => {
  const latchkey = await startServer();
  try {
    const { status, headers } = await send(`${latchkey.url}/`);
    assert.equal(status, 302);
    assert.equal(headers.location, "/console/");
    assert.equal((await send(`${latchkey.url}/?a=1`)).status, 404);
    assert.equal((await send(`${latchkey.url}/`, { method: "POST" })).status, 404);
    assert.ok([200, 503].includes((await send(`${latchkey.url}/console/keys`)).status));
    assert.ok([200, 503].includes((await send(`${latchkey.url}/console/keys`, { http2: true })).status));
  } finally {
    await latchkey.close();
  }

  const own = Fastify();
  await serveConsole(own, files);
  own.get("/", () => "our own");
  assert.equal((await own.inject("/")).body, "our own");
});

test("the console hooks into no RPC: they need not pass Fastify for its sake", async () => {
  const { fastify, hooked } = await createApp(withDefaults({}), { secretKey: undefined });
  await serveConsole(fastify, files);
  assert.equal(hooked(), false);
  fastify.addHook("onRequest", async () => {});
  assert.equal(hooked(), true);
});

test("LATCHKEY_CONSOLE=false serves no console, signs nobody in and reads no cookie", async () => {
  const latchkey = await startServer({ console: false });
  try {
    for (const path of ["/", "/console", "/console/keys"]) {
      assert.equal((await send(`${latchkey.url}${path}`)).status, 404);
    }
    const call = (method: string, body: object, cookie = "") =>
      send(`${latchkey.url}/latchkey.v1.SessionService/${method}`, {
        method: "POST",
        headers: { "content-type": "application/json", "sec-fetch-site": "same-origin", cookie },
        body: JSON.stringify(body),
      });
    const refused = await call("CreateSession", { token: "sk_test_0123456789abcdef" });
    assert.equal(refused.refusal, "failed_precondition");
    assert.match(refused.json.message, /LATCHKEY_CONSOLE/);
    const ignored = await call("GetSession", {}, "latchkey_session=nonsense");
    assert.equal(ignored.refusal, "unauthenticated MISSING");
  } finally {
    await latchkey.close();
  }
});
