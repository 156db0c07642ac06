/** Sessions: what signs in, what a session may do, and how it ends. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { RequestLogService } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { createKeyWorld, type KeyWorld } from "../keys/world.ts";
import { type Browser, openBrowser, samePage, signedIn } from "./browser.ts";

let world: KeyWorld;
let latchkey: TestServer;
/** Another instance on the same database. */
let other: TestServer;

before(async () => {
  // What ends a session is heard: nothing is looked at again for its age while these tests wait.
  const cacheMaxStalenessMs = 60_000;
  world = await createKeyWorld({ cacheMaxStalenessMs });
  latchkey = world.latchkey;
  other = await startServer({ databaseUrl: latchkey.databaseUrl, cacheMaxStalenessMs });
});
after(async () => {
  await other.close();
  await world.close();
});

const whoami = "SessionService/GetSession";
const signOut = "SessionService/DeleteSession";

/** Calls until a session is refused, and returns how. */
async function refusedOn(url: string, cookie: string | undefined): Promise<string> {
  assert.ok(cookie);
  const ask = () => openBrowser(url).callWith({ ...samePage(url), cookie }, whoami);
  return (await until(ask, ({ status }) => status !== 200)).refusal;
}

/** A browser that is signed in, its session in the memory of both instances. */
async function signedInOnBoth(token: string): Promise<Browser> {
  const browser = await signedIn(latchkey.url, token);
  for (const { url } of [latchkey, other]) {
    const headers = { ...samePage(url), cookie: browser.cookie ?? "" };
    assert.equal((await openBrowser(url).callWith(headers, whoami)).status, 200);
  }
  return browser;
}

/** How a session is refused by both instances, once they have heard. */
async function refusedByBoth(cookie: string | undefined): Promise<[string, string]> {
  return [await refusedOn(latchkey.url, cookie), await refusedOn(other.url, cookie)];
}

test("a staff user's token signs in, and the session is that user's", async () => {
  const staff = await world.newKey({ userId: await world.newUser({ isStaff: true }), name: "ops" });
  const browser = openBrowser(latchkey.url);
  const answer = await browser.signIn(staff.token);
  assert.equal(answer.status, 200, answer.body);
  assert.ok(!answer.body.includes(staff.token));
  const { current } = answer.json;
  assert.equal(current.credentialKind, "CREDENTIAL_KIND_SESSION");
  assert.equal(current.isStaff, true);
  assert.equal(current.apiKey.id, staff.id);
  assert.equal(current.apiKey.name, "ops");
  const twelveHours = Date.parse(current.session.endsAt) - Date.parse(current.session.createdAt);
  assert.equal(twelveHours, 12 * 3_600_000);
  assert.equal(current.endsAt, current.session.endsAt);

  const again = (await browser.call(whoami)).json.current;
  // The key's counts move with each call.
  assert.deepEqual({ ...again, apiKey: undefined }, { ...current, apiKey: undefined });
  assert.equal(again.apiKey.id, staff.id);
  assert.equal((await browser.call("UserAdminService/ListUsers")).status, 200);
  assert.equal((await browser.call("ApiKeyService/ListApiKeys")).status, 200);
});

test("no script can read the cookie, and no other site's request carries it", async () => {
  const { token } = await world.newKey();
  const answer = await openBrowser(latchkey.url).signIn(token);
  const [cookie = "", ...others] = answer.headers["set-cookie"] ?? [];
  assert.deepEqual(others, []);
  const [pair, ...attributes] = cookie.split("; ");
  assert.match(pair ?? "", /^latchkey_session=lk_[0-9A-Za-z]{38}$/);
  noteSecret(pair?.split("=")[1] ?? "");
  assert.deepEqual(attributes, ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]);
});

test("what is in the cookie is neither the token nor anybody's API key", async () => {
  const { token } = await world.newKey();
  const browser = await signedIn(latchkey.url, token);
  const value = browser.cookie?.split("=")[1] ?? "";
  assert.notEqual(value, token);
  await assert.rejects(latchkey.as(value).keys.listApiKeys({}), { code: Code.Unauthenticated });
  // Nor is a token a session.
  const url = latchkey.url;
  const forged = await openBrowser(url).callWith(
    { ...samePage(url), cookie: `latchkey_session=${token}` },
    whoami,
  );
  assert.equal(forged.refusal, "unauthenticated INVALID_SESSION");
});

test("the secret key signs in as the first staff user", async () => {
  const browser = await signedIn(latchkey.url, secretKey);
  const { current } = (await browser.call(whoami)).json;
  assert.equal(current.username, "admin");
  assert.equal(current.isStaff, true);
  assert.equal(current.apiKey, undefined);
  assert.equal((await browser.call("ServerService/GetServer")).status, 200);
});

test("a session of the secret key ends where another secret key, or none, is accepted", async () => {
  const { cookie } = await signedIn(latchkey.url, secretKey);
  for (const settings of [
    { secretKey: noteSecret("sk_test_another_secret_key") },
    { acceptSecretKey: false },
  ]) {
    const server = await startServer({ databaseUrl: latchkey.databaseUrl, ...settings });
    try {
      assert.equal(await refusedOn(server.url, cookie), "unauthenticated INVALID_SESSION");
    } finally {
      await server.close();
    }
  }
});

test("a plain user's session sees that user's keys, and nothing of others", async () => {
  const mine = await world.newKey();
  const theirs = await world.newKey();
  const browser = await signedIn(latchkey.url, mine.token);
  const { apiKeys } = (await browser.call("ApiKeyService/ListApiKeys")).json;
  assert.deepEqual(
    apiKeys.map((key: { id: string }) => key.id),
    [mine.id],
  );
  assert.equal((await browser.call("ApiKeyService/GetApiKey", { id: theirs.id })).refusal, "not_found");
  assert.equal(
    (await browser.call("UserAdminService/ListUsers")).refusal,
    "permission_denied STAFF_REQUIRED",
  );
  assert.equal((await browser.call("ServerService/GetServer")).refusal, "permission_denied STAFF_REQUIRED");
});

test("a session may call what its key may, from where its key may", async () => {
  const methods = await world.newKey({ allowedMethods: ["latchkey.v1.SessionService/*"] });
  const browser = await signedIn(latchkey.url, methods.token);
  assert.equal((await browser.call(whoami)).status, 200);
  const refused = await browser.call("ApiKeyService/ListApiKeys");
  assert.equal(refused.refusal, "permission_denied METHOD_NOT_ALLOWED");

  const narrowed = await world.newKey();
  const narrow = await signedIn(latchkey.url, narrowed.token);
  await world.staff.keys.updateApiKey({
    apiKey: { id: narrowed.id, allowedAddresses: ["203.0.113.0/24"] },
    updateMask: { paths: ["allowed_addresses"] },
  });
  const answer = await until(
    () => narrow.call(whoami),
    ({ status }) => status !== 200,
  );
  assert.equal(answer.refusal, "permission_denied ADDRESS_NOT_ALLOWED");
});

test("a session passes on no more than its key has", async () => {
  const key = await world.newKey({ allowedMethods: ["latchkey.v1.*"] });
  const browser = await signedIn(latchkey.url, key.token);
  const userId = String(key.key.userId);
  const wide = await browser.call("ApiKeyService/CreateApiKey", { userId, name: "wide" });
  assert.equal(wide.refusal, "permission_denied");
  const narrow = await browser.call("ApiKeyService/CreateApiKey", {
    userId,
    name: "narrow",
    allowedMethods: ["latchkey.v1.ApiKeyService/*"],
  });
  assert.equal(narrow.status, 200);
  noteSecret(narrow.json.token);
});

test("a key that may not call CreateSession signs nobody in", async () => {
  const { token } = await world.newKey({ allowedMethods: ["api.users.UserService/*"] });
  const answer = await openBrowser(latchkey.url).signIn(token);
  assert.equal(answer.refusal, "permission_denied METHOD_NOT_ALLOWED");
  assert.equal(answer.headers["set-cookie"], undefined);
});

test("signing out ends the session on every instance, and the cookie goes", async () => {
  const { token } = await world.newKey();
  const browser = await signedInOnBoth(token);
  const { cookie } = browser;
  const answer = await browser.call(signOut);
  assert.equal(answer.status, 200);
  assert.equal(browser.cookie, undefined);
  const gone = "unauthenticated INVALID_SESSION";
  assert.deepEqual(await refusedByBoth(cookie), [gone, gone]);
  // Again, with nothing to end.
  assert.equal((await browser.call(signOut)).status, 200);
});

test("a session ends with the revocation of its key, and says so", async () => {
  const key = await world.newKey();
  const { cookie } = await signedInOnBoth(key.token);
  await world.staff.keys.revokeApiKey({ id: key.id });
  const revoked = "unauthenticated REVOKED";
  assert.deepEqual(await refusedByBoth(cookie), [revoked, revoked]);
});

test("a session ends when its key expires, by rotation too", async () => {
  const key = await world.newKey();
  const browser = await signedInOnBoth(key.token);
  noteSecret((await world.staff.keys.rotateApiKey({ id: key.id, grace: { seconds: 0n } })).token);
  const expired = "unauthenticated EXPIRED";
  assert.deepEqual(await refusedByBoth(browser.cookie), [expired, expired]);
});

test("a session ends for good when its user is disabled", async () => {
  const key = await world.newKey();
  const { cookie } = await signedInOnBoth(key.token);
  const set = (isActive: boolean) =>
    world.staff.admin.updateUser({
      user: { id: key.key.userId, isActive },
      updateMask: { paths: ["is_active"] },
    });
  await set(false);
  assert.match(await refusedOn(latchkey.url, cookie), /^unauthenticated /);
  await set(true);
  await until(
    () =>
      key.client.keys.listApiKeys({}).then(
        () => true,
        () => false,
      ),
    Boolean,
  );
  const gone = "unauthenticated INVALID_SESSION";
  assert.deepEqual(await refusedByBoth(cookie), [gone, gone]);
});

test("a session ends with its key and with its user, when they are deleted", async () => {
  const key = await world.newKey();
  const { cookie } = await signedInOnBoth(key.token);
  await world.staff.admin.deleteUser({ id: key.key.userId });
  const gone = "unauthenticated INVALID_SESSION";
  assert.deepEqual(await refusedByBoth(cookie), [gone, gone]);
});

test("a session ends by its age, on every instance", async () => {
  const key = await world.newKey();
  const browser = await signedInOnBoth(key.token);
  await world.sql`UPDATE sessions SET ends_at = now(), expires_at = now() WHERE api_key_id = ${key.id}`;
  const expired = "unauthenticated EXPIRED";
  assert.deepEqual(await refusedByBoth(browser.cookie), [expired, expired]);
  const listed = await key.client.sessions.listSessions({});
  assert.deepEqual(listed.sessions, []);
});

test("use moves the end of a session on, up to its age", async () => {
  const server = await startServer({
    databaseUrl: latchkey.databaseUrl,
    sessionIdleMinutes: 30,
    sessionMaxHours: 1,
  });
  try {
    const key = await world.newKey();
    const browser = await signedIn(server.url, key.token);
    const minutesLeft = async () => {
      const [row] = await world.sql<{ idle: number; age: number }[]>`
        SELECT extract(epoch FROM expires_at - now()) / 60 AS idle, extract(epoch FROM ends_at - now()) / 60 AS age
        FROM sessions WHERE api_key_id = ${key.id}`;
      return [Math.round(Number(row?.idle)), Math.round(Number(row?.age))];
    };
    assert.deepEqual(await minutesLeft(), [30, 60]);
    const lastUsed = (minutes: number, age: number) => world.sql`
      UPDATE sessions SET seen_at = now() - make_interval(mins => ${minutes}),
        expires_at = now() + make_interval(mins => ${30 - minutes}), ends_at = now() + make_interval(mins => ${age})
      WHERE api_key_id = ${key.id}`;
    await lastUsed(20, 40);
    await until(
      async () => {
        assert.equal((await browser.call(whoami)).status, 200);
        return minutesLeft();
      },
      ([idle]) => idle === 30,
    );
    await lastUsed(20, 15);
    await until(
      async () => {
        assert.equal((await browser.call(whoami)).status, 200);
        return minutesLeft();
      },
      ([idle]) => idle === 15,
    );
  } finally {
    await server.close();
  }
});

test("a stream that a session holds open ends with it", async () => {
  const key = await world.newKey();
  const browser = await signedIn(latchkey.url, key.token);
  const logs = createClient(
    RequestLogService,
    createConnectTransport({
      baseUrl: latchkey.url,
      httpVersion: "1.1",
      interceptors: [
        (next) => (req) => {
          for (const [name, value] of Object.entries({
            ...samePage(latchkey.url),
            cookie: browser.cookie ?? "",
          })) {
            req.header.set(name, value);
          }
          return next(req);
        },
      ],
    }),
  );
  const tail = logs.tailRequestLogs({})[Symbol.asyncIterator]();
  await tail.next();
  await browser.call(signOut);
  const ended = async () => {
    while (!(await tail.next()).done);
  };
  await assert.rejects(ended, (error) => ConnectError.from(error).code === Code.Unauthenticated);
});

test("signing in again ends the session before; a key has twenty at most", async () => {
  const key = await world.newKey();
  const browser = await signedIn(latchkey.url, key.token);
  const first = browser.cookie;
  assert.equal((await browser.signIn(key.token)).status, 200);
  assert.notEqual(browser.cookie, first);
  assert.equal(await refusedOn(other.url, first), "unauthenticated INVALID_SESSION");

  const others = await Promise.all(Array.from({ length: 24 }, () => signedIn(latchkey.url, key.token)));
  const { sessions } = await key.client.sessions.listSessions({});
  assert.equal(sessions.length, 20);
  const alive = await Promise.all(others.map((each) => each.call(whoami)));
  assert.ok(alive.filter(({ status }) => status === 200).length >= 19);
});

test("users see and end their own sessions, staff everyone's", async () => {
  const mine = await world.newKey();
  const theirs = await world.newKey();
  const browser = await signedIn(latchkey.url, mine.token);
  const elsewhere = await signedIn(other.url, mine.token);
  const foreign = await signedIn(latchkey.url, theirs.token);

  const listed = (await browser.call("SessionService/ListSessions")).json.sessions;
  assert.equal(listed.length, 2);
  assert.deepEqual(
    listed.map((each: { current?: boolean }) => each.current ?? false),
    [false, true],
  );
  const foreignId = (await foreign.call(whoami)).json.current.session.id;
  assert.equal((await browser.call("SessionService/RevokeSession", { id: foreignId })).refusal, "not_found");
  const asked = await browser.call("SessionService/ListSessions", { userId: String(theirs.key.userId) });
  assert.equal(asked.refusal, "permission_denied");

  assert.equal((await browser.call("SessionService/RevokeSession", { id: listed[0].id })).status, 200);
  assert.equal(await refusedOn(other.url, elsewhere.cookie), "unauthenticated INVALID_SESSION");
  assert.equal((await browser.call(whoami)).status, 200);

  await world.staff.sessions.revokeSession({ id: foreignId });
  assert.equal(await refusedOn(other.url, foreign.cookie), "unauthenticated INVALID_SESSION");
  await assert.rejects(world.staff.sessions.revokeSession({ id: foreignId }), { code: Code.NotFound });
});

test("sessions are listed page by page", async () => {
  const key = await world.newKey();
  for (let i = 0; i < 5; i++) await signedIn(latchkey.url, key.token);
  const found: string[] = [];
  let pageToken = "";
  do {
    const page = await key.client.sessions.listSessions({ pageSize: 2, pageToken });
    assert.ok(page.sessions.length <= 2);
    found.push(...page.sessions.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  assert.equal(new Set(found).size, 5);
  assert.deepEqual(found, found.toSorted().reverse());
  await assert.rejects(key.client.sessions.listSessions({ pageToken: "nonsense" }), {
    code: Code.InvalidArgument,
  });
});

test("GetSession tells who calls by any credential", async () => {
  const key = await world.newKey({ name: "cron" });
  const { current } = await key.client.sessions.getSession({});
  assert.equal(current?.apiKey?.name, "cron");
  assert.equal(current.userId, key.key.userId);
  assert.equal(current.session, undefined);
  assert.equal(current.endsAt, undefined);
  assert.equal((await world.staff.sessions.getSession({})).current?.username, "admin");
  await assert.rejects(world.anonymous.sessions.getSession({}), { code: Code.Unauthenticated });
});

test("the log says that a session called, with whose key, and counts it for that key", async () => {
  const key = await world.newKey();
  const browser = await signedIn(latchkey.url, key.token);
  await browser.call(whoami);
  await browser.call("ApiKeyService/GetApiKey", { id: key.id });
  const rows = await until(
    async () => (await world.staff.logs.listRequestLogs({ filter: { apiKeyId: key.id } })).requestLogs,
    (found) => found.length === 3,
  );
  assert.deepEqual(rows.map(({ method, credentialKind }) => [method, credentialKind]).sort(), [
    ["CreateSession", 2],
    ["GetApiKey", 4],
    ["GetSession", 4],
  ]);
  assert.equal((await world.stored(key.id)).requestCount, 3n);
});

test("the audit log has sign-in and sign-out, with who did it and what ended the session", async () => {
  const key = await world.newKey();
  const browser = await signedIn(latchkey.url, key.token);
  await browser.signIn(key.token);
  await browser.call(signOut);
  const { auditEvents } = await world.staff.audit.listAuditEvents({ targetApiKeyId: key.id });
  const told = auditEvents
    .filter(({ action }) => action.startsWith("session."))
    .map(({ action, after, actorUserId, actorApiKeyId, peerAddress }) => {
      assert.equal(actorUserId, key.key.userId);
      assert.equal(actorApiKeyId, key.id);
      assert.equal(peerAddress, "127.0.0.1");
      return [action, after?.reason];
    });
  assert.deepEqual(told, [
    ["session.end", "signed_out"],
    ["session.create", undefined],
    ["session.end", "replaced"],
    ["session.create", undefined],
  ]);
});
