/** `server.transport()`: calls within the process are those of any other client, to the last row. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { getPrincipal } from "../../src/auth/principal.ts";
import { createToken } from "../../src/auth/token.ts";
import { withApiKey } from "../../src/client.ts";
import type { Config } from "../../src/config.ts";
import { ApiKeyService } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { createServer, type Server } from "../../src/server.ts";
import {
  call,
  callAll,
  compileTableServices,
  implement,
  type Kind,
  methodOf,
} from "../auth/table-services.ts";
import { createTestDatabase } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  clientsOf,
  createUserAndKey,
  newDirectory,
  secretKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

const kinds: readonly Kind[] = ["Unary", "Down", "Up", "Both"];
/** The same clients over the network. */
const networkTransports: Record<
  "connect" | "grpc" | "grpc-web",
  (baseUrl: string, interceptors: Interceptor[]) => Transport
> = {
  connect: (baseUrl, interceptors) => createConnectTransport({ baseUrl, interceptors, httpVersion: "2" }),
  grpc: (baseUrl, interceptors) => createGrpcTransport({ baseUrl, interceptors }),
  "grpc-web": (baseUrl, interceptors) => createGrpcWebTransport({ baseUrl, interceptors, httpVersion: "2" }),
};
const protocols = Object.keys(networkTransports) as (keyof typeof networkTransports)[];

let latchkey: TestServer;
let compiled: Record<string, DescService>;
let tokens: Record<string, string | undefined>;
let bound: string;

const implementation = implement((asked, context) =>
  (async function* () {
    let text = "";
    for await (text of asked);
    if (text === "fail") throw new ConnectError("no such thing", Code.NotFound);
    if (text === "hang") {
      yield "first";
      await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
    }
    yield `${getPrincipal(context)?.username ?? "anonymous"} sent ${text.length}`;
  })(),
);

before(async () => {
  compiled = compileTableServices();
  latchkey = await startServer(
    {},
    {
      routes(router) {
        for (const service of Object.values(compiled)) router.service(service, implementation);
      },
    },
  );
  const gone = await createUserAndKey(latchkey.asStaff, "gone");
  await latchkey.asStaff.keys.revokeApiKey({ id: gone.apiKeyId });
  const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({
    userId: 2n,
    name: "bound",
    allowedAddresses: ["203.0.113.0/24", "2001:db8::/32"],
  });
  assert.ok(apiKey);
  bound = noteSecret(token);
  tokens = {
    none: undefined,
    good: (await createUserAndKey(latchkey.asStaff, "ada")).token,
    staff: secretKey,
    unknown: noteSecret(createToken("lk")),
    revoked: gone.token,
  };
});
after(() => latchkey.close());

/** What came of a call: its answers, and the code and details of its error. */
async function outcome(transport: Transport, service: string, kind: Kind, text: string, requestId: string) {
  const answers: string[] = [];
  const headers = { "x-request-id": requestId };
  try {
    for await (const answer of call(transport, methodOf(compiled[service], kind), { text, headers }))
      answers.push(answer);
    return { answers };
  } catch (error) {
    const { rawMessage, code, details } = ConnectError.from(error);
    return { answers, rawMessage, code: Code[code], details: details.length };
  }
}

/** The row of a call but for what differs from call to call. */
async function rowOf(requestId: string) {
  const rows = await until(
    () => latchkey.sql`SELECT * FROM request_logs WHERE request_id = ${requestId}`,
    (found) => found.length > 0,
  );
  assert.equal(rows.length, 1);
  const { time, id, duration_us, request_id, ...row } = rows[0]!;
  assert.ok(time && id && duration_us && request_id);
  return row;
}

describe("in the same words as over the network", () => {
  let calls = 0;
  for (const protocol of protocols) {
    test(`${protocol}: verdict, answer, error and log row of every kind of call`, async () => {
      const pairs: [here: string, there: string, cell: string][] = [];
      for (const [credential, token] of Object.entries(tokens)) {
        const interceptors = token === undefined ? [] : [withApiKey(token)];
        const transports = {
          inProcess: latchkey.server.transport({ protocol, ...(token && { token }) }),
          network: networkTransports[protocol](latchkey.url, interceptors),
        };
        for (const service of ["Optional", "Authenticated", "Staff", "Public"]) {
          for (const kind of kinds) {
            for (const text of ["", "fail", "x".repeat(200_000)]) {
              const [here, there] = [`here-${++calls}`, `there-${calls}`];
              const cell = `${credential} ${service}.${kind} ${text.slice(0, 9)}`;
              const got = await outcome(transports.inProcess, service, kind, text, here);
              assert.deepEqual(got, await outcome(transports.network, service, kind, text, there), cell);
              pairs.push([here, there, cell]);
            }
          }
        }
      }
      for (const [here, there, cell] of pairs) assert.deepEqual(await rowOf(here), await rowOf(there), cell);
    });

    test(`${protocol}: a stream ends when its key is revoked, and is recorded as canceled when its client leaves`, async () => {
      const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, `rita-${protocol}`);
      const transport = latchkey.server.transport({ protocol, token });
      const open = async (requestId: string, signal?: AbortSignal) => {
        const headers = { "x-request-id": requestId };
        const options = { text: "hang", headers, ...(signal && { signal }) };
        const answers = call(transport, methodOf(compiled.Optional, "Down"), options);
        assert.equal((await answers.next()).value, "first");
        return answers;
      };
      const controller = new AbortController();
      const leaving = await open(`leaving-${protocol}`, controller.signal);
      controller.abort();
      await assert.rejects(leaving.next());
      assert.equal((await rowOf(`leaving-${protocol}`)).code, Code.Canceled);
      const stream = await open(`revoked-${protocol}`);
      await latchkey.asStaff.keys.revokeApiKey({ id: apiKeyId });
      await assert.rejects(stream.next(), (error) => ConnectError.from(error).code === Code.Unauthenticated);
    });

    test(`${protocol}: calls come from the address that the transport is told`, async () => {
      for (const [peerAddress, code] of [
        ["203.0.113.7", "ok"],
        ["2001:db8::7", "ok"],
        ["198.51.100.7", "PermissionDenied"],
        [undefined, "PermissionDenied"],
      ] as const) {
        const transport = latchkey.server.transport({
          protocol,
          token: bound,
          ...(peerAddress && { peerAddress }),
        });
        const requestId = `from-${protocol}-${peerAddress}`;
        const got = await outcome(transport, "Optional", "Unary", "", requestId);
        assert.equal(got.code ?? "ok", code);
        assert.equal((await rowOf(requestId)).peer_address, peerAddress ?? "127.0.0.1");
      }
      assert.throws(
        () => latchkey.server.transport({ peerAddress: "nowhere" }),
        /must be an IP address: nowhere/,
      );
    });
  }
});

describe("of a server that does not listen", () => {
  let server: Server;
  const create = async (options: Partial<Config> = {}) =>
    createServer({
      databaseUrl: await createTestDatabase(),
      dataDir: newDirectory(),
      secretKey: noteSecret(secretKey),
      logLevel: "silent",
      apiKeyHeader: "x-lk",
      ...options,
    });
  before(async () => {
    server = await create();
  });
  after(() => server.close());

  test("calls are served at once, many at a time, with the token in the server's own header", async () => {
    const staff = clientsOf(server.transport({ token: secretKey }));
    const names = Array.from({ length: 50 }, (_, n) => `user-${n}`);
    await Promise.all(
      names.map((username) => staff.users.createUser({ username, email: `${username}@example.com` })),
    );
    const anonymous = clientsOf(server.transport());
    await assert.rejects(anonymous.keys.listApiKeys({}), /x-lk/);
    const { users } = await staff.admin.listUsers({ pageSize: 100 });
    assert.equal(users.length, 52);
  });

  test("a transport's own interceptors run, and a function is asked for the token", async () => {
    const seen: string[] = [];
    const transport = server.transport({
      token: async () => secretKey,
      interceptors: [
        (next) => (req) => {
          seen.push(req.method.name);
          return next(req);
        },
      ],
    });
    await createClient(ApiKeyService, transport).listApiKeys({});
    assert.deepEqual(seen, ["ListApiKeys"]);
  });

  test("once it is closed, calls are unavailable and there are no new transports; nothing is left behind", async () => {
    const { TMPDIR } = process.env;
    const directory = newDirectory();
    const other = await create({ usageDurability: "strict" });
    try {
      process.env.TMPDIR = directory;
      const staff = clientsOf(other.transport({ token: secretKey }));
      await staff.keys.listApiKeys({});
      assert.equal(readdirSync(directory).length, 1);
      await other.close();
      assert.deepEqual(readdirSync(directory), []);
      await assert.rejects(
        staff.keys.listApiKeys({}),
        (error) => ConnectError.from(error).code === Code.Unavailable,
      );
      assert.throws(() => other.transport(), /the server is closed/);
    } finally {
      process.env.TMPDIR = TMPDIR ?? "";
    }
  });

  test("a call that runs when the server is closed is finished first", async () => {
    const { promise: running, resolve: begun } = Promise.withResolvers<void>();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const other = await createServer({
      databaseUrl: await createTestDatabase(),
      dataDir: newDirectory(),
      secretKey: noteSecret(secretKey),
      logLevel: "silent",
      routes(router) {
        router.service(
          compiled.Optional!,
          implement((asked) =>
            (async function* () {
              for await (const _ of asked);
              begun();
              await released;
              yield "finished";
            })(),
          ),
        );
      },
    });
    const answer = callAll(other.transport(), methodOf(compiled.Optional, "Unary"));
    await running;
    const closed = other.close();
    release();
    assert.deepEqual(await answer, ["finished"]);
    await closed;
  });
});
