/** Forward auth, asked as proxies ask. test/clients asks with nginx itself. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import Fastify from "fastify";
import { mountForwardAuth } from "../../src/auth/forward-auth.ts";
import { createPolicy } from "../../src/auth/policy.ts";
import { createToken } from "../../src/auth/token.ts";
import type { Decide, Verdict } from "../../src/auth/verdict.ts";
import { signedIn } from "../console/browser.ts";
import { noteSecret } from "../harness/secrets.ts";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { createKeyWorld, type KeyWorld, type MadeKey } from "../keys/world.ts";
import { proxiedKeys, rowsOf } from "./proxied.ts";

let world: KeyWorld;
let gateway: MadeKey;
let ada: MadeKey;
let payer: MadeKey;
before(async () => {
  world = await createKeyWorld({ forwardAuthPath: "/auth", publicMethods: ["open.v1.Status/Get"] });
  ({ gateway, ada, payer } = await proxiedKeys(world));
});
after(() => world.close());

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

type Header = readonly [name: string, value: string | undefined];

const pay = "/billing.v1.InvoiceService/Pay";
const unknown = noteSecret(createToken("lk"));

/** Asks over node:http, which sends headers twice where it is told to. */
function ask(url: string, headers: readonly Header[], method = "GET"): Promise<Answer> {
  const raw = headers.flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
  return new Promise((resolve, reject) => {
    const asking = request(url, { method, headers: ["host", "latchkey", ...raw], agent: false }, (res) => {
      let body = "";
      res.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      res.on("end", () => {
        resolve({ status: res.statusCode ?? 0, headers: res.headers as Record<string, string>, body });
      });
    });
    asking.on("error", reject).end();
  });
}

interface Asked {
  uri?: string;
  verb?: string;
  token?: string;
  proxyKey?: string | undefined;
  from?: string;
  query?: string;
  more?: readonly Header[];
}

/** As the nginx of README asks. */
function nginx(asked: Asked, url = world.latchkey.url): Promise<Answer> {
  const { uri = pay, verb = "POST", token, from = "203.0.113.7", query = "", more = [] } = asked;
  const proxyKey = "proxyKey" in asked ? asked.proxyKey : gateway.token;
  return ask(`${url}/auth${query}`, [
    ["x-proxy-api-key", proxyKey],
    ["x-original-uri", uri],
    ["x-original-method", verb],
    ["x-forwarded-for", from],
    ["x-api-key", token],
    ["user-agent", "curl/8"],
    ...more,
  ]);
}

const identityOf = ({ headers }: Answer) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("x-latchkey-")));

test("it is not there unless its path is set", async (t) => {
  const server = await startServer({ databaseUrl: world.latchkey.databaseUrl });
  t.after(() => server.close());
  assert.equal((await nginx({ token: ada.token }, server.url)).status, 404);
});

test("a session of the console is no credential here", async () => {
  const browser = await signedIn(world.latchkey.url, ada.token);
  const answer = await nginx({
    more: [
      ["cookie", browser.cookie],
      ["sec-fetch-site", "same-origin"],
    ],
  });
  assert.equal(answer.status, 401);
  assert.equal(answer.headers["x-latchkey-reason"], "MISSING");
});

test("a caller who sends the proxy's own line of x-forwarded-for does not move where it came from", async () => {
  const from = (first: string, ...others: string[]) =>
    nginx({
      token: payer.token,
      from: first,
      more: others.map((line) => ["x-forwarded-for", line]),
    });
  assert.equal((await from("203.0.113.9")).status, 200);
  assert.equal((await from("203.0.113.9", "198.51.100.7")).status, 403);
  assert.equal((await from("198.51.100.7", "203.0.113.9", "198.51.100.7")).status, 403);
});

test("a good key is let in, with its identity", async () => {
  const answer = await nginx({ token: ada.token });
  assert.deepEqual([answer.status, answer.body], [200, ""]);
  assert.equal(answer.headers["cache-control"], "no-store");
  assert.deepEqual(identityOf(answer), {
    "x-latchkey-user-id": String(ada.key.userId),
    "x-latchkey-username": "user-2",
    "x-latchkey-is-staff": "false",
    "x-latchkey-credential-kind": "api_key",
    "x-latchkey-api-key-id": ada.id,
  });
});

test("an anonymous caller of a public method is let in, with none", async () => {
  const answer = await nginx({ uri: "/open.v1.Status/Get" });
  assert.equal(answer.status, 200);
  assert.deepEqual(identityOf(answer), {});
});

for (const [name, asked, code, status, reason, challenge] of [
  ["no key", {}, "unauthenticated", 401, "MISSING", "Bearer"],
  [
    "an unknown key",
    { token: unknown },
    "unauthenticated",
    401,
    "INVALID_API_KEY",
    'Bearer error="invalid_token"',
  ],
  [
    "a key for another method",
    { payer: true, uri: "/billing.v1.InvoiceService/Void" },
    "permission_denied",
    403,
    "METHOD_NOT_ALLOWED",
    undefined,
  ],
  [
    "a key from elsewhere",
    { payer: true, from: "198.51.100.1" },
    "permission_denied",
    403,
    "ADDRESS_NOT_ALLOWED",
    undefined,
  ],
  [
    "a key from where nobody tells",
    { payer: true, from: "" },
    "permission_denied",
    403,
    "ADDRESS_NOT_ALLOWED",
    undefined,
  ],
] as const) {
  test(`${name} is refused, in words that nginx can pass on to either kind of client`, async () => {
    const { payer: withPayer, ...rest } = asked as Asked & { payer?: boolean };
    const {
      status: answered,
      headers,
      body,
    } = await nginx({ ...rest, ...(withPayer && { token: payer.token }) });
    assert.equal(answered, status);
    assert.equal(headers["www-authenticate"], challenge);
    assert.equal(headers["x-latchkey-reason"], reason);
    assert.equal(headers["x-latchkey-error"], body);
    const error = JSON.parse(body);
    assert.deepEqual([error.code, error.details[0].debug.reason], [code, reason]);
    assert.equal(decodeURIComponent(headers["grpc-message"] ?? ""), error.message);
    assert.equal(headers["grpc-status"], String(code === "unauthenticated" ? 16 : 7));
    assert.ok(headers["grpc-status-details-bin"]);
  });
}

test("a call is counted for its key, and the asking for the proxy's", async () => {
  const key = await world.newKey();
  const requestId = "forward-auth-1";
  await nginx({ token: key.token, more: [["x-request-id", requestId]] });
  const rows = await rowsOf(world, "forward_auth", requestId, 2);
  assert.deepEqual(
    rows.map((row) => ({ ...row })),
    [
      {
        service: "latchkey.v1.ApiKeyService",
        method: "VerifyApiKey",
        code: 0,
        denial_reason: null,
        api_key_id: gateway.id,
        peer_address: "127.0.0.1",
        user_agent: "",
      },
      {
        service: "billing.v1.InvoiceService",
        method: "Pay",
        code: 0,
        denial_reason: null,
        api_key_id: key.id,
        peer_address: "203.0.113.7",
        user_agent: "curl/8",
      },
    ],
  );
  assert.equal((await world.stored(key.id)).requestCount, 1n);
  assert.ok((await world.stored(gateway.id)).requestCount > 0n);
  const { requestLogs } = await world.staff.logs.listRequestLogs({
    filter: { apiKeyId: key.id, protocol: "forward_auth" },
  });
  assert.equal(requestLogs.length, 1);
});

for (const [name, proxyKey] of [
  ["no key", undefined],
  ["a key that is none", unknown],
  ["a key that may not verify", "ada"],
  ["a key that may verify, for other methods", "elsewhere"],
  ["an empty key", ""],
] as const) {
  test(`a proxy with ${name} is told so, and nothing of the token that it asks about`, async () => {
    const key = await world.newKey();
    const elsewhere = await world.newKey({ canVerify: true, allowedMethods: ["envoy.*"] });
    const sent = { ada: ada.token, elsewhere: elsewhere.token }[proxyKey ?? ""] ?? proxyKey;
    const answers: string[] = [];
    for (const token of [key.token, unknown]) {
      // Nor is what a stranger says of itself believed.
      const answer = await nginx({ token, proxyKey: sent, more: [["x-forwarded-for", "127.0.0.1"]] });
      assert.equal(answer.status, 503, "which no proxy takes for a refusal of the caller's");
      assert.equal(answer.headers["www-authenticate"], undefined);
      assert.deepEqual(Object.keys(identityOf(answer)), ["x-latchkey-error"]);
      answers.push(answer.body);
    }
    assert.equal(answers[0], answers[1]);
    assert.match(answers[0] ?? "", /may not ask for verdicts/);
    // Had it been counted, it would be with what is counted now.
    const requestId = `forward-auth-${name}`.replaceAll(/\W/g, "-");
    await nginx({ token: ada.token, more: [["x-request-id", requestId]] });
    await rowsOf(world, "forward_auth", requestId, 2);
    assert.equal((await world.stored(key.id)).requestCount, 0n);
  });
}

test("a trusted proxy needs no key; its word is believed no further than to the first that is not trusted", async (t) => {
  const server = await startServer({
    databaseUrl: world.latchkey.databaseUrl,
    forwardAuthPath: "/internal/verdict",
    trustedProxies: ["127.0.0.0/8", "10.0.0.0/8"],
  });
  t.after(() => server.close());
  /** As Traefik asks: with all of the caller's headers. */
  const traefik = (token: string, forwardedFor: string, more: readonly Header[] = []) =>
    ask(`${server.url}/internal/verdict`, [
      ["x-forwarded-method", "POST"],
      ["x-forwarded-proto", "https"],
      ["x-forwarded-host", "billing.example"],
      ["x-forwarded-uri", pay],
      ["x-forwarded-for", forwardedFor],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
      ["x-api-key", token],
      ...more,
    ]);
  assert.equal((await traefik(ada.token, "203.0.113.7")).status, 200);
  assert.equal((await traefik(payer.token, "203.0.113.7, 10.1.2.3")).status, 200);
  assert.equal(
    (await traefik(payer.token, "203.0.113.7, 198.51.100.1")).status,
    403,
    "the caller's own word",
  );
  assert.equal((await traefik(payer.token, "198.51.100.1, 203.0.113.7")).status, 200);
  const bearer = await traefik("", "203.0.113.7", [["authorization", `Bearer ${ada.token}`]]);
  assert.equal(bearer.status, 401, "two credentials, one of them empty");
  assert.equal((await nginx({ token: ada.token, proxyKey: undefined }, server.url)).status, 404);
});

test("headers that the caller adds to the proxy's change nothing, or refuse the call", async () => {
  const status = async (token: string, uri: string, more: readonly Header[]) =>
    (await nginx({ token, uri, more })).status;
  const other = "/billing.v1.InvoiceService/Void";
  for (const name of ["x-original-uri", "X-ORIGINAL-URI", "x-original-url", "x-forwarded-uri"]) {
    assert.equal(await status(payer.token, other, [[name, pay]]), 403, name);
    assert.equal(await status(ada.token, other, [[name, pay]]), 403, name);
  }
  assert.equal(await status(payer.token, other, [["x_original_uri", pay]]), 403);
  assert.equal(await status(payer.token, other, [["x-latchkey-service", "invoices"]]), 403);
  assert.equal(await status(payer.token, pay, [["x-api-key", ada.token]]), 401);
  assert.equal(await status(payer.token, pay, [["x-api-key", payer.token]]), 401);
  assert.equal(await status(payer.token, pay, [["authorization", `Bearer ${ada.token}`]]), 401);
  assert.equal(
    await status(payer.token, pay, [
      ["authorization", "Basic eDp5"],
      ["authorization", `Bearer ${payer.token}`],
    ]),
    200,
  );
  const forged = await nginx({ uri: "/open.v1.Status/Get", more: [["x-latchkey-user-id", "1"]] });
  assert.deepEqual(identityOf(forged), {});
});

test("the proxy's own configuration names a service, which is called by its HTTP method", async () => {
  const asked = { token: payer.token, uri: "/v1/invoices/42" };
  assert.equal((await nginx({ ...asked, verb: "GET", query: "?service=invoices" })).status, 200);
  assert.equal((await nginx({ ...asked, verb: "PUT", query: "?service=invoices" })).status, 403);
  assert.equal((await nginx({ ...asked, verb: "GET" })).status, 403);
  for (const query of ["?service=in%20voices", "?method=GET", "?service=a&service=b"]) {
    const { status, body } = await nginx({ ...asked, query });
    assert.equal(status, 503, query);
    assert.match(body, /the query must name a service/);
  }
});

test("a proxy that tells nothing of the request is told what to send", async () => {
  const { status, body } = await ask(`${world.latchkey.url}/auth`, [
    ["x-proxy-api-key", gateway.token],
    ["x-api-key", ada.token],
  ]);
  assert.equal(status, 503);
  assert.match(body, /x-original-uri/);
});

test("any HTTP method asks, and a body is not waited for", async () => {
  for (const method of ["HEAD", "POST", "PUT", "OPTIONS", "PROPFIND"]) {
    const headers: Header[] = [
      ["x-proxy-api-key", gateway.token],
      ["x-original-uri", pay],
      ["x-api-key", ada.token],
      ["content-type", "application/grpc"],
      ["content-length", method === "POST" ? "1000000" : "0"],
    ];
    assert.equal((await ask(`${world.latchkey.url}/auth`, headers, method)).status, 200, method);
  }
});

test("a revoked key is refused, and logged as that", async () => {
  const key = await world.newKey();
  assert.equal((await nginx({ token: key.token })).status, 200);
  await world.staff.keys.revokeApiKey({ id: key.id });
  await until(
    () => nginx({ token: key.token }),
    ({ status }) => status === 401,
  );
  const requestId = "forward-auth-revoked";
  await nginx({ token: key.token, more: [["x-request-id", requestId]] });
  const [, row] = await rowsOf(world, "forward_auth", requestId, 2);
  assert.deepEqual([row?.method, row?.code, row?.denial_reason], ["Pay", Code.Unauthenticated, "REVOKED"]);
  assert.equal(row?.api_key_id, key.id);
});

test("with authentication switched off a trusted proxy lets everyone in, and others ask in vain", async (t) => {
  for (const [trusted, status] of [
    ["127.0.0.1", 200],
    ["127.0.0.2", 503],
  ] as const) {
    const open = await startServer({
      authEnabled: false,
      databaseUrl: world.latchkey.databaseUrl,
      forwardAuthPath: "/auth",
      trustedProxies: [trusted],
    });
    t.after(() => open.close());
    const answer = await nginx({ token: ada.token, uri: "/api.users.UserService/DeleteUser" }, open.url);
    assert.equal(answer.status, status);
    assert.equal(answer.headers["x-latchkey-user-id"], undefined);
  }
});

/** The endpoint alone, with verdicts of the test's own. */
async function endpoint(t: TestContext, decide: Decide): Promise<string> {
  const app = Fastify();
  t.after(() => app.close());
  mountForwardAuth(app, {
    path: "/auth",
    trustedProxies: ["127.0.0.1"],
    maxConcurrent: 2,
    decide,
    policy: createPolicy({ requireAuth: false, publicMethods: [] }),
    readCredential: () => ({ kind: "none" }),
    apiKeyHeader: "x-api-key",
    recorder: { accepts: () => true, record: () => undefined },
  });
  return await app.listen({ host: "127.0.0.1", port: 0 });
}

test("no more are decided at once than a bound", async (t) => {
  const verdict = Promise.withResolvers<Verdict>();
  let asked = 0;
  const url = await endpoint(t, () => {
    asked++;
    return verdict.promise;
  });
  const waiting = [nginx({}, url), nginx({}, url)];
  await until(
    () => asked,
    (n) => n === 2,
  );
  const third = await nginx({}, url);
  assert.equal(third.status, 503);
  assert.match(third.body, /too many requests at once/);
  verdict.resolve({ denial: undefined, principal: undefined, subject: undefined, credentialKind: "none" });
  assert.deepEqual(
    (await Promise.all(waiting)).map(({ status }) => status),
    [200, 200],
  );
  assert.equal((await nginx({}, url)).status, 200, "there is room again");
});

test("a fault of our own lets nobody in, and tells nothing of itself", async (t) => {
  const url = await endpoint(t, () => {
    throw new TypeError("inner workings");
  });
  const { status, body } = await nginx({}, url);
  assert.deepEqual([status, JSON.parse(body)], [500, { code: "internal", message: "internal error" }]);
});

test("strictly counted calls are not let in while the database does not take them", async (t) => {
  const server = await startServer({
    forwardAuthPath: "/auth",
    usageDurability: "strict",
    trustedProxies: ["127.0.0.1"],
    publicMethods: ["open.v1.Status/Get"],
  });
  t.after(() => server.close());
  assert.equal((await nginx({ uri: "/open.v1.Status/Get" }, server.url)).status, 200);
  await server.sql`ALTER TABLE request_logs RENAME TO request_logs_away`;
  const refused = await until(
    () => nginx({ uri: "/open.v1.Status/Get" }, server.url),
    ({ status }) => status !== 200,
  );
  assert.equal(refused.status, 503);
  assert.match(refused.body, /could not be counted/);
  await server.sql`ALTER TABLE request_logs_away RENAME TO request_logs`;
  await until(
    () => nginx({ uri: "/open.v1.Status/Get" }, server.url),
    ({ status }) => status === 200,
  );
});
