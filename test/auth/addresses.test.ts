/** Allowed addresses, held against who is really at the other end of the socket. */
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { after, before, test } from "node:test";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let direct: TestServer;
/** Believes x-forwarded-for of who calls it from 127.0.0.1. */
let behindProxy: TestServer;
before(async () => {
  direct = await startServer({ publicMethods: ["api.users.UserService/GetUser"] });
  behindProxy = await startServer({ databaseUrl: direct.databaseUrl, trustedProxies: ["127.0.0.1"] });
});
after(() => Promise.all([direct.close(), behindProxy.close()]));

let n = 0;
/** A key that may be used from these addresses alone. */
async function keyFrom(...allowed: string[]): Promise<{ token: string; apiKeyId: string; userId: bigint }> {
  const key = await createUserAndKey(direct.asStaff, `from-${n++}`);
  await direct.sql`UPDATE api_keys SET allowed_addresses = ${allowed} WHERE id = ${key.apiKeyId}`;
  return key;
}

/** Calls a method that needs a principal. Answers "ok", or with what was said. */
async function call(transport: Transport, headers: Record<string, string>): Promise<string> {
  return createClient(UserService, transport)
    .updateProfile({ bio: "here" }, { headers })
    .then(
      () => "ok",
      (error: unknown) => {
        const { code, rawMessage } = ConnectError.from(error);
        return `${Code[code]}: ${rawMessage}`;
      },
    );
}

const refused = "PermissionDenied: this API key may not be used from this address";
const overHttp1 = (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "1.1" });
const overGrpc = (baseUrl: string) => createGrpcTransport({ baseUrl });

for (const [allowed, outcome] of [
  [["127.0.0.0/8"], "ok"],
  [["127.0.0.1/32"], "ok"],
  [["::1/128", "127.0.0.1/32"], "ok"],
  [["0.0.0.0/0"], "ok"],
  [["::ffff:127.0.0.0/104"], "ok"],
  [["10.0.0.0/8"], refused],
  [["127.0.0.0/32", "128.0.0.0/1"], refused],
  [["::1/128"], refused],
  [["::/0"], refused],
] as const) {
  test(`a key for ${allowed.join(" and ")}, used from 127.0.0.1: ${outcome}`, async () => {
    const { token } = await keyFrom(...allowed);
    for (const transport of [overHttp1(direct.url), overGrpc(direct.url)]) {
      assert.equal(await call(transport, { "x-api-key": token }), outcome);
      assert.equal(await call(transport, { authorization: `Bearer ${token}` }), outcome);
    }
  });
}

for (const [name, allowed, forwarded, outcome] of [
  ["the client that a trusted proxy names", "203.0.113.0/24", "203.0.113.7", "ok"],
  ["another client that it names", "203.0.113.0/24", "203.0.114.7", refused],
  ["the proxy's own address, which is not the client's", "127.0.0.0/8", "203.0.113.7", refused],
  ["nobody named, so that the proxy is the client", "127.0.0.0/8", undefined, "ok"],
  ["what the client says of itself before the proxy", "203.0.113.0/24", "203.0.113.7, 198.51.100.1", refused],
  ["the last one before the proxy", "198.51.100.0/24", "203.0.113.7, 198.51.100.1", "ok"],
  ["IPv4 that the proxy writes as IPv6", "203.0.113.0/24", "::ffff:203.0.113.7", "ok"],
  ["an address with a port", "203.0.113.0/24", "203.0.113.7:4711", "ok"],
  ["IPv6", "2001:db8::/32", "2001:DB8::7", "ok"],
  ["IPv6 that ends like an allowed IPv4", "203.0.113.0/24", "::203.0.113.7", refused],
  ["what is no address, so that the proxy is the client", "203.0.113.0/24", "203.0.113", refused],
] as const) {
  test(`behind a proxy, ${name}: ${outcome}`, async () => {
    const { token } = await keyFrom(allowed);
    const headers = {
      "x-api-key": token,
      ...(forwarded !== undefined && { "x-forwarded-for": forwarded }),
    };
    for (const transport of [overHttp1(behindProxy.url), overGrpc(behindProxy.url)]) {
      assert.equal(await call(transport, headers), outcome);
    }
  });
}

test("where no proxy is trusted, x-forwarded-for helps nobody and harms nobody", async () => {
  const elsewhere = await keyFrom("203.0.113.0/24");
  const here = await keyFrom("127.0.0.0/8");
  for (const name of ["x-forwarded-for", "x-real-ip", "forwarded"]) {
    const value = name === "forwarded" ? "for=203.0.113.7" : "203.0.113.7";
    for (const transport of [overHttp1(direct.url), overGrpc(direct.url)]) {
      assert.equal(await call(transport, { "x-api-key": elsewhere.token, [name]: value }), refused);
      assert.equal(await call(transport, { "x-api-key": here.token, [name]: value }), "ok");
    }
  }
});

test("on a socket for both, IPv4 is IPv4 and IPv6 is IPv6", async (t) => {
  const all = Object.values(networkInterfaces()).flat();
  if (!all.some((found) => found?.address === "::1")) return t.skip("this machine has no ::1");
  const dual = await startServer({ databaseUrl: direct.databaseUrl, host: "::" });
  t.after(() => dual.close());
  const fourOnly = await keyFrom("127.0.0.0/8");
  const sixOnly = await keyFrom("::1/128");
  for (const connect of [overHttp1, overGrpc]) {
    const four = connect(`http://127.0.0.1:${dual.port}`);
    assert.equal(await call(four, { "x-api-key": fourOnly.token }), "ok");
    assert.equal(await call(four, { "x-api-key": sixOnly.token }), refused);
  }
  // Not over HTTP/2: Node's client leaves the brackets out of the authority.
  const six = overHttp1(`http://[::1]:${dual.port}`);
  assert.equal(await call(six, { "x-api-key": fourOnly.token }), refused);
  assert.equal(await call(six, { "x-api-key": sixOnly.token }), "ok");
});

test("for a public method a key from elsewhere counts as none: the caller is anonymous, and nothing is counted", async () => {
  const { token, userId, apiKeyId } = await keyFrom("10.0.0.0/8");
  const here = await keyFrom("127.0.0.0/8");
  // A user sees their own email, an anonymous caller none.
  const emailSeenBy = async (key: string, id: bigint) =>
    (await direct.as(key).users.getUser({ userId: id })).email;
  assert.equal(await emailSeenBy(token, userId), "");
  assert.notEqual(await emailSeenBy(here.token, here.userId), "");
  const { requestLogs } = await until(
    () => direct.asStaff.logs.listRequestLogs({ filter: { userId } }),
    (found) => found.requestLogs.length > 0,
  );
  assert.deepEqual(
    requestLogs.map(({ method, code }) => [method, code]),
    [["GetUser", "ok"]],
  );
  assert.equal((await direct.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey?.requestCount, 0n);
});

test("a refusal by address is logged with whose key it was and where it came from, and not counted", async () => {
  const { token, userId, apiKeyId } = await keyFrom("10.0.0.0/8");
  assert.equal(await call(overGrpc(direct.url), { "x-api-key": token }), refused);
  const [row] = await until(
    async () =>
      await direct.sql`
      SELECT code, denial_reason, user_id, credential_kind, host(peer_address) AS peer
      FROM request_logs WHERE api_key_id = ${apiKeyId}`,
    (rows) => rows.length > 0,
  );
  assert.deepEqual(
    { ...row },
    {
      code: Code.PermissionDenied,
      denial_reason: "ADDRESS_NOT_ALLOWED",
      user_id: String(userId),
      credential_kind: "api_key",
      peer: "127.0.0.1",
    },
  );
  assert.equal((await direct.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey?.requestCount, 0n);
});

test("allowed addresses that change count at once, on every instance", async () => {
  const { token, apiKeyId } = await keyFrom("127.0.0.0/8");
  const servers = [direct, behindProxy];
  const outcome = (expected: string) =>
    Promise.all(
      servers.map(({ url }) =>
        until(
          () => call(overHttp1(url), { "x-api-key": token }),
          (found) => found === expected,
        ),
      ),
    );
  await outcome("ok");
  await direct.sql`UPDATE api_keys SET allowed_addresses = '{10.0.0.0/8}' WHERE id = ${apiKeyId}`;
  await outcome(refused);
  await direct.sql`UPDATE api_keys SET allowed_addresses = '{}' WHERE id = ${apiKeyId}`;
  await outcome("ok");
});

test("an allowed address that cannot be read, which only a hand in the table can have written, opens nothing", async () => {
  const { token } = await keyFrom("127.0.0.0/8", "everywhere");
  assert.match(await call(overGrpc(direct.url), { "x-api-key": token }), /^Unavailable: /);
});
