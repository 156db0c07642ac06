/** Envoy's ext_authz, asked by a client that sends what Envoy sends. test/clients asks with Envoy itself. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport, type Transport } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import type { CallRecorder, EndedCall } from "../../src/auth/call.ts";
import { createCredentialReader } from "../../src/auth/credential.ts";
import { createExtAuthz } from "../../src/auth/ext-authz.ts";
import { identityHeaderNames } from "../../src/auth/identity-headers.ts";
import { createPolicy } from "../../src/auth/policy.ts";
import { principalKey } from "../../src/auth/principal.ts";
import { createToken } from "../../src/auth/token.ts";
import { HeaderValueOption_HeaderAppendAction as HeaderAppendAction } from "../../src/gen/envoy/config/core/v3/base_pb.js";
import type { AttributeContextSchema } from "../../src/gen/envoy/service/auth/v3/attribute_context_pb.js";
import { Authorization, type CheckResponse } from "../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { signedIn } from "../console/browser.ts";
import { noteSecret } from "../harness/secrets.ts";
import { connectTransport, startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { createKeyWorld, type KeyWorld, type MadeKey } from "../keys/world.ts";
import { proxiedKeys, rowsOf } from "./proxied.ts";

let world: KeyWorld;
let gateway: MadeKey;
let ada: MadeKey;
let payer: MadeKey;
before(async () => {
  world = await createKeyWorld({ publicMethods: ["open.v1.Status/Get"] });
  ({ gateway, ada, payer } = await proxiedKeys(world));
});
after(() => world.close());

interface Asked {
  path?: string;
  verb?: string;
  headers?: Record<string, string>;
  raw?: [string, string][];
  address?: string | undefined;
  named?: Record<string, string>;
}

const pay = "/billing.v1.InvoiceService/Pay";
const grpc = { "content-type": "application/grpc", te: "trailers" };

/** What Envoy sends. */
function attributes(asked: Asked): MessageInitShape<typeof AttributeContextSchema> {
  const { path = pay, verb = "POST", headers = {}, raw, address = "203.0.113.7" } = asked;
  return {
    source: {
      address: {
        address: {
          case: "socketAddress",
          value: { address, portSpecifier: { case: "portValue", value: 4711 } },
        },
      },
    },
    request: {
      http: {
        method: verb,
        path,
        host: "billing.example",
        protocol: "HTTP/2",
        size: -1n,
        headers: { ":path": path, ":method": verb, ...headers },
        ...(raw && {
          headers: {},
          headerMap: { headers: raw.map(([key, value]) => ({ key, rawValue: Buffer.from(value) })) },
        }),
      },
    },
    contextExtensions: asked.named ?? {},
  };
}

function check(asked: Asked, transport: Transport = connectTransport(world.latchkey.url, gateway.token)) {
  return createClient(Authorization, transport).check({ attributes: attributes(asked) });
}

const failure = (call: Promise<unknown>) =>
  call.then(() => assert.fail("it was answered"), ConnectError.from);

function allowed({ status, httpResponse }: CheckResponse) {
  assert.equal(status?.code, 0);
  assert.equal(httpResponse.case, "okResponse");
  if (httpResponse.case !== "okResponse") throw new Error("unreachable");
  for (const { appendAction } of httpResponse.value.headers) {
    assert.equal(
      appendAction,
      HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
      "a forged one is not kept beside it",
    );
  }
  return {
    headers: headersOf(httpResponse.value.headers),
    removed: httpResponse.value.headersToRemove.sort(),
  };
}

function denied({ status, httpResponse }: CheckResponse) {
  assert.equal(httpResponse.case, "deniedResponse");
  if (httpResponse.case !== "deniedResponse") throw new Error("unreachable");
  const { status: http, headers, body } = httpResponse.value;
  return { code: status?.code, status: Number(http?.code), headers: headersOf(headers), body };
}

function headersOf(options: readonly { header?: { key: string; value: string } | undefined }[]) {
  return Object.fromEntries(options.map(({ header }) => [header?.key, header?.value]));
}

test("only who may verify keys may ask, and a stranger is refused before it is read", async () => {
  const ask = (token: string | undefined) => check({}, connectTransport(world.latchkey.url, token));
  assert.equal((await failure(ask(undefined))).findDetails(ErrorInfoSchema)[0]?.reason, "MISSING");
  assert.equal((await failure(ask(noteSecret(createToken("lk"))))).code, Code.Unauthenticated);
  assert.equal((await failure(ask(ada.token))).code, Code.PermissionDenied);
  const elsewhere = await world.newKey({ canVerify: true, allowedMethods: ["latchkey.v1.*"] });
  assert.equal((await failure(ask(elsewhere.token))).code, Code.PermissionDenied);
  await ask(gateway.token);
});

test("a good key is let in: its identity goes on, its token and what was forged do not", async () => {
  const forged = { "x-latchkey-user-id": "1,2", x_latchkey_user_id: "1", "x-latchkey-admin": "yes" };
  const answer = await check({
    headers: { ...grpc, "x-api-key": ada.token, authorization: "Basic eDp5", ...forged },
  });
  assert.deepEqual(allowed(answer), {
    headers: {
      "x-latchkey-user-id": String(ada.key.userId),
      "x-latchkey-username": "user-2",
      "x-latchkey-is-staff": "false",
      "x-latchkey-credential-kind": "api_key",
      "x-latchkey-api-key-id": ada.id,
    },
    removed: ["x-api-key", "x-latchkey-admin", "x_latchkey_user_id"],
  });
  assert.deepEqual(answer.dynamicMetadata, {
    code: "ok",
    credential_kind: "api_key",
    user_id: String(ada.key.userId),
    username: "user-2",
    is_staff: false,
    api_key_id: ada.id,
  });
});

test("a session of the console is no credential here, and goes on to no server behind", async () => {
  const browser = await signedIn(world.latchkey.url, ada.token);
  const session = browser.cookie ?? "";
  assert.match(session, /^latchkey_session=/);
  // The page is the service's own: that is what the browser speaks of.
  const sent = { "sec-fetch-site": "same-origin" };
  const reason = denied(await check({ headers: { ...sent, cookie: session } }));
  assert.equal(reason.status, 401);
  const answer = await check({ headers: { ...sent, "x-api-key": ada.token, cookie: session } });
  assert.deepEqual(allowed(answer).removed, ["cookie", "x-api-key"]);
  const among = {
    raw: [
      ["x-api-key", ada.token],
      ["cookie", "theme=dark"],
      ["cookie", session],
    ],
  };
  const passed = allowed(await check(among as Asked));
  assert.deepEqual([passed.headers.cookie, passed.removed], ["theme=dark", ["x-api-key"]]);
  const others = allowed(await check({ headers: { "x-api-key": ada.token, cookie: "theme=dark; a=b" } }));
  assert.deepEqual([others.headers.cookie, others.removed], [undefined, ["x-api-key"]]);
});

test("a token that came as Bearer is removed too, and so is one of two", async () => {
  const bearer = { authorization: `Bearer ${ada.token}` };
  assert.deepEqual(allowed(await check({ headers: bearer })).removed, ["authorization"]);
  const both = { ...bearer, "x-api-key": ada.token };
  assert.deepEqual(allowed(await check({ headers: both })).removed, ["authorization", "x-api-key"]);
});

test("an anonymous caller of a public method is let in without any identity", async () => {
  const { headers, removed } = allowed(
    await check({ path: "/open.v1.Status/Get", headers: { "x-latchkey-user-id": "1" } }),
  );
  assert.deepEqual(headers, {});
  assert.deepEqual(removed, [...identityHeaderNames].sort());
});

test("headers are read raw as well, and two different tokens are none", async () => {
  const raw: [string, string][] = [["X-Api-Key", ada.token]];
  assert.equal(allowed(await check({ raw })).headers["x-latchkey-api-key-id"], ada.id);
  for (const second of ["x-api-key", "authorization"]) {
    const value = second === "authorization" ? `Bearer ${payer.token}` : payer.token;
    const answer = denied(await check({ raw: [...raw, [second, value]] }));
    assert.equal(answer.code, Code.Unauthenticated, second);
  }
  const twice = denied(await check({ raw: [...raw, ...raw] }));
  assert.equal(twice.code, Code.Unauthenticated);
  const merged = { "x-api-key": `${ada.token},${ada.token}` };
  assert.equal(denied(await check({ headers: merged })).code, Code.Unauthenticated);
});

for (const [name, asked, code, status, reason, challenge] of [
  ["no key", {}, Code.Unauthenticated, 401, "MISSING", "Bearer"],
  [
    "an unknown key",
    { key: "unknown" },
    Code.Unauthenticated,
    401,
    "INVALID_API_KEY",
    'Bearer error="invalid_token"',
  ],
  [
    "a key for another method",
    { key: "payer", path: "/billing.v1.InvoiceService/Void" },
    Code.PermissionDenied,
    403,
    "METHOD_NOT_ALLOWED",
    undefined,
  ],
  [
    "a key from elsewhere",
    { key: "payer", address: "198.51.100.1" },
    Code.PermissionDenied,
    403,
    "ADDRESS_NOT_ALLOWED",
    undefined,
  ],
  [
    "a key from where nobody knows",
    { key: "payer", address: "/run/envoy.sock" },
    Code.PermissionDenied,
    403,
    "ADDRESS_NOT_ALLOWED",
    undefined,
  ],
  [
    "a staff method",
    { key: "ada", path: "/api.users.UserService/DeleteUser" },
    Code.PermissionDenied,
    403,
    "STAFF_REQUIRED",
    undefined,
  ],
] as const) {
  test(`${name} is refused in the words of gRPC, and in those of HTTP`, async () => {
    const { key, ...rest } = asked as { key?: string } & Asked;
    const token = key && { ada: ada.token, payer: payer.token, unknown: noteSecret(createToken("lk")) }[key];
    const headers: Record<string, string> = token ? { "x-api-key": token } : {};

    const toGrpc = denied(await check({ ...rest, headers: { ...grpc, ...headers } }));
    assert.deepEqual([toGrpc.code, toGrpc.status], [code, status]);
    assert.equal(toGrpc.headers["www-authenticate"], challenge);
    const trailers = new Headers({
      "grpc-status": String(code),
      "grpc-status-details-bin": toGrpc.headers["grpc-status-details-bin"] ?? "",
    });
    const error = findTrailerError(trailers);
    assert.equal(error?.rawMessage, toGrpc.body);
    assert.equal(error?.findDetails(ErrorInfoSchema)[0]?.reason, reason);

    const toHttp = denied(await check({ ...rest, headers }));
    assert.deepEqual([toHttp.code, toHttp.status], [code, status]);
    assert.equal(toHttp.headers["www-authenticate"], challenge);
    assert.equal(toHttp.headers["content-type"], "application/json");
    const body = JSON.parse(toHttp.body);
    assert.deepEqual([body.message, body.details[0].debug.reason], [toGrpc.body, reason]);
  });
}

test("each is counted for the caller's key and logged with the method, address and outcome of the caller's", async () => {
  const requestId = "ext-authz-1";
  const key = await world.newKey({ allowedMethods: ["billing.v1.*"] });
  const headers = { ...grpc, "x-api-key": key.token, "x-request-id": requestId, "user-agent": "grpc-go/1.2" };
  await check({ headers });
  await check({ headers, path: "/other.v1.Thing/Do" });
  await world.staff.keys.revokeApiKey({ id: key.id });
  await until(
    () => check({ headers: { ...grpc, "x-api-key": key.token } }),
    ({ status }) => status?.code === Code.Unauthenticated,
  );
  await check({ headers });
  const row = { api_key_id: key.id, peer_address: "203.0.113.7", user_agent: "grpc-go/1.2" };
  const paid = { service: "billing.v1.InvoiceService", method: "Pay" };
  assert.deepEqual(
    (await rowsOf(world, "ext_authz", requestId, 3)).map((found) => ({ ...found })),
    [
      { ...paid, code: 0, denial_reason: null, ...row },
      {
        service: "other.v1.Thing",
        method: "Do",
        code: Code.PermissionDenied,
        denial_reason: "METHOD_NOT_ALLOWED",
        ...row,
      },
      { ...paid, code: Code.Unauthenticated, denial_reason: "REVOKED", ...row },
    ],
  );
  const listed = await world.staff.logs.listRequestLogs({
    filter: { apiKeyId: key.id, protocol: "ext_authz" },
  });
  assert.ok(listed.requestLogs.length >= 3);
  const { requestCount } = await world.stored(key.id);
  const [uses] = await world.sql`
    SELECT count(*)::int AS n FROM request_logs WHERE api_key_id = ${key.id} AND denial_reason IS DISTINCT FROM 'REVOKED'`;
  assert.equal(requestCount, BigInt(uses?.n));
});

test("a service that the proxy's configuration names is called by its HTTP method", async () => {
  const headers = { "x-api-key": payer.token };
  const named = { service: "invoices" };
  allowed(await check({ headers, named, verb: "GET", path: "/v1/invoices/%34%32" }));
  assert.equal(denied(await check({ headers, named, verb: "DELETE", path: "/v1/invoices/42" })).status, 403);
  assert.equal(
    denied(await check({ headers, verb: "GET", path: "/v1/invoices/42" })).status,
    403,
    "nothing named",
  );
  allowed(await check({ headers: { "x-api-key": ada.token }, verb: "GET", path: "/v1/invoices/42" }));
  for (const wrong of [{ service: "in voices" }, { method: "GET" }]) {
    const error = await failure(check({ headers, named: wrong }));
    assert.equal(error.code, Code.InvalidArgument);
    assert.match(error.rawMessage, /context_extensions/);
  }
});

test("the caller's headers name no service", async () => {
  const named = { "x-latchkey-service": "invoices", service: "invoices", "x-original-uri": pay };
  const headers = { "x-api-key": payer.token, ...named };
  assert.equal(
    denied(await check({ headers, verb: "GET", path: "/billing.v1.InvoiceService/Void" })).status,
    403,
  );
});

test("a path that proxy and server could read differently is refused to any key", async () => {
  for (const path of ["/api.users.UserService/%44eleteUser", `/open.v1.Status/..${pay}`, "*", ""]) {
    const { code, status, body } = denied(
      await check({ path, headers: { ...grpc, "x-api-key": ada.token } }),
    );
    assert.deepEqual([code, status], [Code.PermissionDenied, 403], path);
    assert.match(body, /more than one way/);
  }
});

test("a stranger's paths make no names in log and statistics", async () => {
  const requestId = "ext-authz-2";
  const headers = { ...grpc, "x-request-id": requestId };
  const named = `/billing.v1.InvoiceService/Listed`;
  await check({ path: named, headers: { "x-api-key": ada.token } });
  for (const path of ["/stranger.v1.Made/Up1", "/stranger.v1.Made/Up2", named])
    await check({ path, headers });
  const rows = await rowsOf(world, "ext_authz", requestId, 3);
  assert.deepEqual(
    rows.map(({ service, method }) => `${service}/${method}`),
    ["/", "/", "billing.v1.InvoiceService/Listed"],
  );
});

test("what tells of no HTTP request is the proxy's mistake", async () => {
  const client = createClient(Authorization, connectTransport(world.latchkey.url, gateway.token));
  for (const request of [{}, { attributes: {} }, { attributes: { request: {} } }]) {
    assert.equal((await failure(client.check(request))).code, Code.InvalidArgument);
  }
});

test("with authentication switched off nobody may ask", async (t) => {
  const open = await startServer({ authEnabled: false, databaseUrl: world.latchkey.databaseUrl });
  t.after(() => open.close());
  const error = await failure(check({}, connectTransport(open.url, gateway.token)));
  assert.equal(error.code, Code.Unauthenticated);
});

for (const [name, recorder] of [
  ["cannot be counted", { accepts: () => false }],
  ["was not committed", { record: () => Promise.reject(new Error("not committed")) }],
] as const) {
  test(`what ${name} is not let in`, async () => {
    const { status, code } = denied(await check({ path: "/open.v1.Status/Get" }, withRecorder(recorder)));
    assert.deepEqual([code, status], [Code.Unavailable, 503]);
  });
}

test("the answer waits for the commit", async () => {
  const commit = Promise.withResolvers<void>();
  const recorded: EndedCall[] = [];
  let answered = false;
  const record = (call: EndedCall) => {
    recorded.push(call);
    return commit.promise;
  };
  const answer = check({ path: "/open.v1.Status/Get" }, withRecorder({ record })).then((found) => {
    answered = true;
    return found;
  });
  await until(
    () => recorded.length,
    (n) => n === 1,
  );
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(answered, false);
  commit.resolve();
  allowed(await answer);
});

/** The service over a recorder that the test holds in its hands; anyone is let in, and asks as staff. */
function withRecorder(recorder: Partial<CallRecorder>): Transport {
  const service = createExtAuthz({
    decide: () => ({ denial: undefined, principal: undefined, subject: undefined, credentialKind: "none" }),
    policy: createPolicy({ requireAuth: false, publicMethods: [] }),
    readCredential: createCredentialReader({
      apiKeyHeader: "x-api-key",
      tokenPrefix: "lk",
      secretKey: undefined,
    }),
    apiKeyHeader: "x-api-key",
    recorder: { accepts: () => true, record: () => undefined, ...recorder },
  });
  return createRouterTransport((router) => router.service(Authorization, service), {
    router: {
      interceptors: [
        (next) => (req) => {
          req.contextValues.set(principalKey, {
            userId: 1n,
            username: "admin",
            isStaff: true,
            credentialKind: "secret_key",
            apiKeyId: undefined,
            canVerify: true,
          });
          return next(req);
        },
      ],
    },
  });
}
