/** Requests that another site's page, or nobody's page, makes a browser send: the cookie does not count. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createToken } from "../../src/auth/token.ts";
import { pem } from "../harness/pem.ts";
import { noteSecret } from "../harness/secrets.ts";
import { newDirectory, startServer } from "../harness/server.ts";
import { createKeyWorld, type KeyWorld, type MadeKey } from "../keys/world.ts";
import { type Answer, type Browser, openBrowser, samePage, send, signedIn } from "./browser.ts";

let world: KeyWorld;
let url: string;
let host: string;
let key: MadeKey;
let browser: Browser;

before(async () => {
  world = await createKeyWorld();
  url = world.latchkey.url;
  host = new URL(url).host;
  key = await world.newKey({ userId: await world.newUser({ isStaff: true }) });
  browser = await signedIn(url, key.token);
});
after(() => world.close());

const crossSite = "permission_denied CROSS_SITE";

/** Asks who calls, with the cookie of the one who is signed in and other headers besides. */
function whoami(
  headers: Record<string, string>,
  options: { http2?: boolean; method?: string } = {},
): Promise<Answer> {
  const { method = "POST" } = options;
  const query = method === "GET" ? "?encoding=json&connect=v1&message=%7B%7D" : "";
  return send(`${url}/latchkey.v1.SessionService/GetSession${query}`, {
    method,
    headers: {
      ...(method === "POST" && { "content-type": "application/json" }),
      cookie: browser.cookie ?? "",
      ...headers,
    },
    ...(method === "POST" && { body: "{}" }),
    ...(options.http2 && { http2: true }),
  });
}

const proofs: [name: string, headers: () => Record<string, string>][] = [
  ["a page of this origin", () => samePage(url)],
  ["a browser that says no more than that it is of this origin", () => ({ "sec-fetch-site": "same-origin" })],
  ["a browser on a plain connection, which names its page alone", () => ({ origin: url })],
  [
    "a proxy that has put its own name in Host",
    () => ({ ...samePage("http://keys.example.com"), host: "10.0.0.7:50051" }),
  ],
];
for (const [name, headers] of proofs) {
  test(`the cookie counts for ${name}`, async () => {
    for (const http2 of [false, true]) {
      const answer = await whoami(headers(), { http2 });
      assert.equal(answer.json.current?.userId, String(key.key.userId), answer.body);
    }
  });
}

const forgeries: [name: string, headers: () => Record<string, string>][] = [
  ["another site's script", () => ({ origin: "https://evil.example", "sec-fetch-site": "cross-site" })],
  ["another site's form or image, without an origin", () => ({ "sec-fetch-site": "cross-site" })],
  [
    "a sibling domain's script",
    () => ({ origin: "https://sibling.example.com", "sec-fetch-site": "same-site" }),
  ],
  ["another port of this host", () => ({ origin: "http://127.0.0.1:1", "sec-fetch-site": "same-site" })],
  ["another port of this host, in an old browser", () => ({ origin: "http://127.0.0.1:1" })],
  ["a link or the address bar", () => ({ "sec-fetch-site": "none", "sec-fetch-mode": "navigate" })],
  ["another site's script in an old browser", () => ({ origin: "https://evil.example" })],
  ["a sandboxed frame", () => ({ origin: "null" })],
  ["an old browser that tells nothing", () => ({})],
  ["an origin that begins like ours", () => ({ origin: `${url}.evil.example` })],
  ["an origin that ends like ours", () => ({ origin: `http://evil.example/${host}` })],
  ["an origin with ours as its user", () => ({ origin: `http://${host}@evil.example` })],
  ["an origin of another scheme", () => ({ origin: `ftp://${host}` })],
  ["no origin but a referer of ours", () => ({ referer: `${url}/console/` })],
  [
    "a page that says it is ours, from a site that is not",
    () => ({ origin: url, "sec-fetch-site": "cross-site" }),
  ],
  ["two answers to where it comes from", () => ({ "sec-fetch-site": "same-origin, cross-site" })],
  ["an empty origin", () => ({ origin: "" })],
];
for (const [name, headers] of forgeries) {
  test(`the cookie does not count for ${name}`, async () => {
    for (const options of [{}, { http2: true }, { method: "GET" }]) {
      const answer = await whoami(headers(), options);
      assert.equal(answer.refusal, crossSite, answer.body);
      assert.equal(answer.status, 403);
      assert.match(answer.json.message, /own page/);
    }
  });
}

test("a name that leads here and is not ours has no cookie, and proves nothing by it", async () => {
  // What a page does whose name is bound to our address later: it is same-origin with itself, and has its own cookies.
  const rebound = { ...samePage("http://evil.example:50051"), host: "evil.example:50051" };
  const answer = await openBrowser(url).callWith(rebound, "SessionService/GetSession");
  assert.equal(answer.refusal, "unauthenticated MISSING");
  const planted = `latchkey_session=${noteSecret(createToken("lk"))}`;
  const forged = await openBrowser(url).callWith(
    { ...rebound, cookie: planted },
    "SessionService/GetSession",
  );
  assert.equal(forged.refusal, "unauthenticated INVALID_SESSION");
});

test("a form that another site posts changes nothing", async () => {
  const victim = await world.newKey({ userId: key.key.userId });
  for (const type of [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/plain",
    "application/json",
  ]) {
    for (const method of [
      "ApiKeyService/RevokeApiKey",
      "SessionService/DeleteSession",
      "UserAdminService/DeleteUser",
    ]) {
      const answer = await send(`${url}/latchkey.v1.${method}`, {
        method: "POST",
        headers: {
          "content-type": type,
          cookie: browser.cookie ?? "",
          origin: "https://evil.example",
          "sec-fetch-site": "cross-site",
          "sec-fetch-mode": "navigate",
          "sec-fetch-dest": "document",
        },
        body: JSON.stringify({ id: victim.id }),
      });
      assert.ok([403, 415].includes(answer.status), `${method} as ${type}: ${answer.status}`);
      assert.equal(answer.headers["set-cookie"], undefined);
    }
  }
  assert.equal((await world.stored(victim.id)).revokedAt, undefined);
  assert.equal((await browser.call("SessionService/GetSession")).status, 200);
});

test("another site can neither sign a visitor in nor out", async () => {
  for (const headers of [
    { origin: "https://evil.example", "sec-fetch-site": "cross-site" },
    { origin: "https://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "none" },
    { "sec-fetch-site": "same-site" },
  ] as Record<string, string>[]) {
    const visitor = openBrowser(url);
    const signIn = await visitor.callWith(headers, "SessionService/CreateSession", { token: key.token });
    assert.equal(signIn.refusal, crossSite);
    assert.equal(visitor.cookie, undefined);
    const out = await browser.callWith(headers, "SessionService/DeleteSession");
    assert.equal(out.refusal, crossSite);
    assert.equal(out.headers["set-cookie"], undefined);
  }
  // Nor is one told to be signed out who is not, by a browser that proves nothing.
  assert.equal((await browser.callWith({}, "SessionService/DeleteSession")).refusal, crossSite);
  assert.equal((await browser.call("SessionService/GetSession")).status, 200);
});

test("a session that somebody put into the browser before does not come to be of whoever signs in", async () => {
  const attacker = await signedIn(url, (await world.newKey()).token);
  const planted = attacker.cookie ?? "";
  const victim = openBrowser(url);
  const answer = await victim.callWith(
    { ...samePage(url), cookie: planted },
    "SessionService/CreateSession",
    {
      token: key.token,
    },
  );
  assert.equal(answer.json.current.userId, String(key.key.userId));
  assert.notEqual(victim.cookie, planted);
  // And what was planted is worth nothing any more.
  assert.equal((await attacker.call("SessionService/GetSession")).refusal, "unauthenticated INVALID_SESSION");
  // Nor is a value that nobody was given.
  const made = `latchkey_session=${noteSecret(createToken("lk"))}`;
  await victim.callWith({ ...samePage(url), cookie: made }, "SessionService/CreateSession", {
    token: key.token,
  });
  const own = await openBrowser(url).callWith(
    { ...samePage(url), cookie: made },
    "SessionService/GetSession",
  );
  assert.equal(own.refusal, "unauthenticated INVALID_SESSION");
});

test("two session cookies at once count as none that is good", async () => {
  const other = await signedIn(url, (await world.newKey()).token);
  const answer = await whoami({ ...samePage(url), cookie: `${other.cookie}; ${browser.cookie}` });
  assert.equal(answer.refusal, "unauthenticated INVALID_SESSION");
});

test("a key in a header is what was meant, whatever cookie came with it and wherever from", async () => {
  const plain = await world.newKey();
  for (const headers of [samePage(url), { origin: "https://app.example", "sec-fetch-site": "cross-site" }]) {
    for (const credential of [{ "x-api-key": plain.token }, { authorization: `Bearer ${plain.token}` }]) {
      const answer = await whoami({ ...headers, ...credential });
      assert.equal(answer.json.current.userId, String(plain.key.userId));
    }
    assert.equal(
      (await whoami({ ...headers, "x-api-key": "nonsense" })).refusal,
      "unauthenticated INVALID_API_KEY",
    );
  }
});

test("an open method takes a bad cookie for what its level says", async () => {
  const getUser = (headers: Record<string, string>) =>
    send(`${url}/api.users.UserService/GetUser`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: '{"userId":"1"}',
    });
  const cookie = browser.cookie ?? "";
  assert.equal((await getUser({ cookie, ...samePage(url) })).status, 200);
  assert.equal((await getUser({ cookie, origin: "https://evil.example" })).refusal, crossSite);
  assert.equal((await getUser({ cookie: "latchkey_session=lk_nonsense", ...samePage(url) })).status, 401);
  // Cookies of others are nobody's credential.
  assert.equal(
    (await getUser({ cookie: "theme=dark; not_latchkey_session=1", origin: "https://a.example" })).status,
    200,
  );
});

test("another origin that may call is not given the cookie's answers", async () => {
  const server = await startServer({
    databaseUrl: world.latchkey.databaseUrl,
    corsOrigins: ["https://app.example"],
  });
  try {
    const preflight = await send(`${server.url}/latchkey.v1.ApiKeyService/ListApiKeys`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-api-key",
      },
    });
    assert.equal(preflight.headers["access-control-allow-origin"], "https://app.example");
    assert.equal(preflight.headers["access-control-allow-credentials"], undefined);
    const { cookie } = browser;
    const answer = await openBrowser(server.url).callWith(
      { origin: "https://app.example", "sec-fetch-site": "cross-site", cookie: cookie ?? "" },
      "ApiKeyService/ListApiKeys",
    );
    assert.equal(answer.refusal, crossSite);
    assert.equal(answer.headers["access-control-allow-credentials"], undefined);
  } finally {
    await server.close();
  }
});

test("over TLS the cookie is bound to the host, and one that is not does not count", async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, "cert.pem"), pem.cert);
  writeFileSync(join(directory, "key.pem"), pem.key);
  const server = await startServer({
    databaseUrl: world.latchkey.databaseUrl,
    tlsCert: join(directory, "cert.pem"),
    tlsKey: join(directory, "key.pem"),
  });
  try {
    const secure = openBrowser(server.url);
    const answer = await secure.signIn(key.token);
    const [cookie = ""] = answer.headers["set-cookie"] ?? [];
    assert.match(
      cookie,
      /^__Host-latchkey_session=[^;]+; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure$/,
    );
    assert.equal((await secure.call("SessionService/GetSession")).status, 200);
    // What a plain connection could have put there.
    const plain = await openBrowser(server.url).callWith(
      { ...samePage(server.url), cookie: browser.cookie ?? "" },
      "SessionService/GetSession",
    );
    assert.equal(plain.refusal, "unauthenticated MISSING");
    // A page over plain HTTP of the same host, in a browser that does not tell.
    const downgraded = await secure.callWith(
      { origin: server.url.replace("https", "http") },
      "SessionService/GetSession",
    );
    assert.equal(downgraded.refusal, crossSite);
  } finally {
    await server.close();
  }
});

test("behind a proxy that ends TLS, the page's own origin decides", async () => {
  const secure = openBrowser(url);
  const page = { ...samePage(`https://${host}`) };
  const answer = await secure.callWith(page, "SessionService/CreateSession", { token: key.token });
  assert.match(answer.headers["set-cookie"]?.[0] ?? "", /^__Host-latchkey_session=.*; Secure$/);
  assert.equal((await secure.callWith(page, "SessionService/GetSession")).status, 200);
});
