/** What a browser is told before and with each call, by the origin of the page that makes it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startServer, type TestServer } from "../harness/server.ts";

const app = "https://app.example.com";
const path = "/api.users.UserService/GetUser";

let latchkey: TestServer;
let any: TestServer;
let none: TestServer;
before(async () => {
  latchkey = await startServer({
    corsOrigins: [app, "http://localhost:5173"],
    apiKeyHeader: "x-team-token",
    requireAuth: true,
  });
  any = await startServer({ corsOrigins: ["*"] });
  none = await startServer();
});
after(() => Promise.all([latchkey.close(), any.close(), none.close()]));

/** Asks as a browser does before a call that carries more than a form could. */
function preflight(
  server: TestServer,
  origin: string,
  headers = "content-type,x-team-token",
  method = "POST",
) {
  return fetch(`${server.url}${path}`, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": method,
      "access-control-request-headers": headers,
    },
  });
}

function call(server: TestServer, init: { path?: string; origin?: string; headers?: object; body?: string }) {
  const { origin, headers } = init;
  return fetch(`${server.url}${init.path ?? path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(origin && { origin }), ...headers },
    body: init.body ?? '{"userId":"1"}',
  });
}

/** The names in a list header, in lower case. */
function names(response: Response, header: string): string[] {
  const value = response.headers.get(header) ?? "";
  return value
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "");
}

function corsHeaders(response: Response): string[] {
  return [...response.headers.keys()].filter((name) => name.startsWith("access-control-"));
}

for (const origin of [app, "http://localhost:5173"]) {
  test(`a preflight from ${origin}, which is listed, may send what every protocol and the key need`, async () => {
    const response = await preflight(latchkey, origin);
    assert.equal(response.status, 204);
    assert.equal(response.headers.get("access-control-allow-origin"), origin);
    const allowed = names(response, "access-control-allow-headers");
    for (const name of [
      "content-type",
      "connect-protocol-version",
      "connect-timeout-ms",
      "grpc-timeout",
      "x-grpc-web",
      "x-user-agent",
      "authorization",
      "x-team-token",
      "x-request-id",
    ]) {
      assert.ok(allowed.includes(name), `${name} is not among ${allowed}`);
    }
    assert.ok(!allowed.includes("x-api-key"), "the default header is not the one that is read");
    const methods = names(response, "access-control-allow-methods");
    assert.ok(methods.includes("post") && methods.includes("get"), String(methods));
    assert.ok(Number(response.headers.get("access-control-max-age")) > 0);
    // What a cache may not give to another origin.
    assert.ok(names(response, "vary").includes("origin"));
    assert.equal(response.headers.get("access-control-allow-credentials"), null);
  });
}

test("a preflight is asked for no credential, and is no RPC", async () => {
  const response = await preflight(latchkey, app);
  assert.equal(response.status, 204);
  assert.equal(response.headers.get("x-request-id"), null);
  const answered = await call(latchkey, { origin: app });
  assert.ok(answered.headers.get("x-request-id"));
});

for (const [title, origin] of [
  ["another origin", "https://evil.example.com"],
  ["a listed origin on another port", "http://localhost:5174"],
  ["a listed origin without TLS", "http://app.example.com"],
  ["an origin that ends like a listed one", "https://evil-app.example.com"],
  ["an origin that begins like a listed one", "https://app.example.com.evil.com"],
  ["a sandboxed page", "null"],
] as const) {
  test(`${title} is not allowed, neither to ask nor to read`, async () => {
    const asked = await preflight(latchkey, origin);
    assert.equal(asked.headers.get("access-control-allow-origin"), null);
    const read = await call(latchkey, { origin });
    assert.equal(read.headers.get("access-control-allow-origin"), null);
    // Lest a cache give this answer to an origin that is allowed.
    assert.ok(names(read, "vary").includes("origin"));
  });
}

for (const [title, init, status] of [
  ["an answer", { headers: { authorization: "Bearer sk_test_0123456789abcdef" } }, 200],
  ["a refusal", { path: "/api.users.UserService/UpdateProfile", body: "{}" }, 401],
  ["a bad key's refusal", { headers: { "x-team-token": "lk_no" } }, 401],
  ["an unknown method", { path: "/api.users.UserService/Nope" }, 404],
  ["a wrong content type", { headers: { "content-type": "text/plain" } }, 415],
  ["a message that is none", { body: "{" }, 400],
] as const) {
  test(`${title} can be read by an allowed origin, its status and its details included`, async () => {
    const response = await call(latchkey, { origin: app, ...init });
    assert.equal(response.status, status);
    assert.equal(response.headers.get("access-control-allow-origin"), app);
    const exposed = names(response, "access-control-expose-headers");
    for (const name of [
      "grpc-status",
      "grpc-message",
      "grpc-status-details-bin",
      "www-authenticate",
      "x-request-id",
    ]) {
      assert.ok(exposed.includes(name), `${name} is not among ${exposed}`);
    }
  });
}

test("a gRPC-Web refusal can be read by an allowed origin", async () => {
  const response = await call(latchkey, {
    path: "/api.users.UserService/UpdateProfile",
    origin: app,
    headers: { "content-type": "application/grpc-web+proto" },
    body: "\0\0\0\0\0",
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("access-control-allow-origin"), app);
});

test("with *, any origin is allowed, and no cache needs to tell them apart", async () => {
  for (const origin of [app, "https://other.example.com", "null"]) {
    const asked = await preflight(any, origin, "x-api-key");
    assert.equal(asked.headers.get("access-control-allow-origin"), "*");
    assert.ok(names(asked, "access-control-allow-headers").includes("x-api-key"));
    assert.equal((await call(any, { origin })).headers.get("access-control-allow-origin"), "*");
  }
});

test("a page may make a GET of a method without side effects", async () => {
  const query = new URLSearchParams({ connect: "v1", encoding: "json", message: '{"userId":"1"}' });
  const response = await fetch(`${any.url}${path}?${query}`, { headers: { origin: app } });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
});

test("without origins configured, nobody is told anything", async () => {
  assert.deepEqual(corsHeaders(await preflight(none, app)), []);
  const answered = await call(none, { origin: app });
  assert.equal(answered.status, 200);
  assert.deepEqual(corsHeaders(answered), []);
});

test("a call without an origin is answered as ever", async () => {
  const response = await call(any, {});
  assert.equal(response.status, 200);
});
