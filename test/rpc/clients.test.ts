/** The main job, from each kind of client that npm has: every call is answered, counted and logged, once. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { compressionGzip, createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import {
  createGrpcWebTransport,
  createConnectTransport as createWebTransport,
} from "@connectrpc/connect-web";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import {
  GetUserRequestSchema,
  UserResponseSchema,
  UserService,
} from "../../src/gen/api/users/user_service_pb.js";
import type { RequestLog } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { CredentialKind } from "../../src/gen/latchkey/v1/verdict_pb.js";
import { createUserAndKey, sendToken, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const manyUsers = 1000;

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
  // The first hundred are small. All of them are more than any socket's buffers hold, so that a stream
  // of all that is not read stays open.
  await latchkey.sql`
    INSERT INTO users (username, username_key, bio)
    SELECT 'reader' || n, 'reader' || n, repeat('b', CASE WHEN n <= 100 THEN 10 ELSE 20000 END)
    FROM generate_series(1, ${manyUsers}) AS n ORDER BY n`;
});
after(() => latchkey.close());

interface User {
  username: string;
  email: string;
  bio: string;
}

/** One kind of client, with a key: it gets a user, and updates its own. */
interface Caller {
  getUser(userId: bigint): Promise<User>;
  updateProfile(bio: string): Promise<User>;
  listUsers?(limit: number): Promise<number>;
  close?(): void;
}

interface Kind {
  name: string;
  protocol: "grpc" | "grpc-web" | "connect";
  userAgent: RegExp;
  /** Body bytes of GetUser, where the client's format has but one way to say it. */
  bytes?: (requestBytes: number, responseBytes: number) => [request: bigint, response: bigint];
  create(token: string): Caller;
}

/** A client over a Connect transport, whatever its protocol. */
function overTransport(transport: Transport): Caller {
  const client = createClient(UserService, transport);
  return {
    getUser: (userId) => client.getUser({ userId }),
    updateProfile: (bio) => client.updateProfile({ bio }),
    async listUsers(limit) {
      let users = 0;
      for await (const _ of client.listUsers({ limit })) users++;
      return users;
    },
  };
}

const contract = grpc.loadPackageDefinition(
  loadSync("api/users/user_service.proto", { includeDirs: [`${repository}/proto`], longs: String }),
) as unknown as { api: { users: { UserService: grpc.ServiceClientConstructor } } };

function grpcJs(token: string, options: grpc.ChannelOptions = {}) {
  const { UserService: Client } = contract.api.users;
  const client = new Client(`127.0.0.1:${latchkey.port}`, grpc.credentials.createInsecure(), options);
  const metadata = new grpc.Metadata();
  metadata.set("x-api-key", token);
  return { client, metadata };
}

function overGrpcJs(token: string, options?: grpc.ChannelOptions): Caller {
  const { client, metadata } = grpcJs(token, options);
  const unary = (method: "GetUser" | "UpdateProfile", request: object) =>
    new Promise<User>((resolve, reject) => {
      client[method]!(request, metadata, (error: Error | null, user: User) =>
        error === null ? resolve(user) : reject(error),
      );
    });
  return {
    getUser: (userId) => unary("GetUser", { userId: String(userId) }),
    updateProfile: (bio) => unary("UpdateProfile", { bio }),
    async listUsers(limit) {
      let users = 0;
      for await (const _ of client.ListUsers!({ limit }, metadata)) users++;
      return users;
    },
    close: () => client.close(),
  };
}

/** Calls as a shell does: JSON in, JSON out. */
function overJson(token: string, header: (token: string) => Record<string, string>): Caller {
  const call = async (method: string, request: object): Promise<User> => {
    const response = await fetch(`${latchkey.url}/api.users.UserService/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...header(token) },
      body: JSON.stringify(request),
    });
    assert.equal(response.status, 200);
    return (await response.json()) as User;
  };
  return {
    getUser: (userId) => call("GetUser", { userId: String(userId) }),
    updateProfile: (bio) => call("UpdateProfile", { bio }),
  };
}

/** `buf curl`, which asks the server itself, by reflection, what its methods take. */
function overBufCurl(token: string, protocol: string): Caller {
  const call = async (method: string, request: object): Promise<User> => {
    const { stdout } = await promisify(execFile)(
      `${repository}/node_modules/.bin/buf`,
      [
        ...["curl", "--protocol", protocol, "--http2-prior-knowledge", "-H", `x-api-key: ${token}`],
        ...["-d", JSON.stringify(request), `${latchkey.url}/api.users.UserService/${method}`],
      ],
      { cwd: "/" },
    );
    return JSON.parse(stdout) as User;
  };
  return {
    getUser: (userId) => call("GetUser", { userId: String(userId) }),
    updateProfile: (bio) => call("UpdateProfile", { bio }),
  };
}

const http = (httpVersion: "1.1" | "2", options: { useBinaryFormat?: boolean; useHttpGet?: boolean }) => ({
  protocol: "connect" as const,
  userAgent: /^connect-es/,
  create: (token: string) =>
    overTransport(
      createConnectTransport({
        baseUrl: latchkey.url,
        httpVersion,
        interceptors: [sendToken(token)],
        ...options,
      }),
    ),
});

const envelope = 5;
const kinds: Kind[] = [
  {
    name: "grpc-js",
    protocol: "grpc",
    userAgent: /^grpc-node-js/,
    bytes: (request, response) => [BigInt(request + envelope), BigInt(response + envelope)],
    create: (token) => overGrpcJs(token),
  },
  {
    name: "grpc-js with gzip",
    protocol: "grpc",
    userAgent: /^grpc-node-js/,
    create: (token) =>
      overGrpcJs(token, { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip }),
  },
  {
    name: "Connect's gRPC client",
    protocol: "grpc",
    userAgent: /^connect-es/,
    bytes: (request, response) => [BigInt(request + envelope), BigInt(response + envelope)],
    create: (token) =>
      overTransport(createGrpcTransport({ baseUrl: latchkey.url, interceptors: [sendToken(token)] })),
  },
  {
    name: "Connect's gRPC client with gzip",
    protocol: "grpc",
    userAgent: /^connect-es/,
    create: (token) =>
      overTransport(
        createGrpcTransport({
          baseUrl: latchkey.url,
          interceptors: [sendToken(token)],
          sendCompression: compressionGzip,
          compressMinBytes: 1,
        }),
      ),
  },
  {
    name: "Connect-Web's gRPC-Web client",
    protocol: "grpc-web",
    userAgent: /./,
    create: (token) =>
      overTransport(createGrpcWebTransport({ baseUrl: latchkey.url, interceptors: [sendToken(token)] })),
  },
  {
    name: "Connect-Web's Connect client",
    protocol: "connect",
    userAgent: /./,
    create: (token) =>
      overTransport(createWebTransport({ baseUrl: latchkey.url, interceptors: [sendToken(token)] })),
  },
  { name: "Connect JSON over HTTP/1.1", ...http("1.1", { useBinaryFormat: false }) },
  { name: "Connect JSON over HTTP/2", ...http("2", { useBinaryFormat: false }) },
  {
    name: "Connect binary over HTTP/1.1",
    ...http("1.1", {}),
    bytes: (request, response) => [BigInt(request), BigInt(response)],
  },
  {
    name: "Connect binary over HTTP/2",
    ...http("2", {}),
    bytes: (request, response) => [BigInt(request), BigInt(response)],
  },
  {
    name: "Connect with GET",
    ...http("1.1", { useHttpGet: true }),
    bytes: (_, response) => [0n, BigInt(response)],
  },
  {
    name: "plain JSON with the key in its header",
    protocol: "connect",
    userAgent: /./,
    create: (token) => overJson(token, () => ({ "x-api-key": token })),
  },
  {
    name: "plain JSON with the key as Bearer",
    protocol: "connect",
    userAgent: /./,
    create: (token) => overJson(token, () => ({ authorization: `Bearer ${token}` })),
  },
  ...(["connect", "grpc", "grpcweb"] as const).map((protocol) => ({
    name: `buf curl by reflection over ${protocol}`,
    protocol: protocol === "grpcweb" ? ("grpc-web" as const) : protocol,
    userAgent: /./,
    create: (token: string) => overBufCurl(token, protocol),
  })),
];

/** The rows of a key, once it counts so many calls; oldest first. Fails where there are more. */
async function rowsOf(apiKeyId: string, calls: number): Promise<RequestLog[]> {
  await until(
    async () => (await latchkey.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey?.requestCount,
    (count) => count === BigInt(calls),
  );
  const { requestLogs } = await latchkey.asStaff.logs.listRequestLogs({ filter: { apiKeyId } });
  assert.equal(requestLogs.length, calls);
  return requestLogs.reverse();
}

let serial = 0;

for (const kind of kinds) {
  test(`calls from ${kind.name} are answered, counted and logged`, async () => {
    const username = `ada${++serial}`;
    const { userId, apiKeyId, token } = await createUserAndKey(latchkey.asStaff, username);
    const caller = kind.create(token);
    try {
      const user = await caller.getUser(userId);
      assert.equal(user.username, username);
      assert.equal(user.email, `${username}@example.com`, "the key signs in the user, who may see the email");
      assert.equal((await caller.updateProfile("counts — 數")).bio, "counts — 數");
      const methods = ["GetUser", "UpdateProfile"];
      if (caller.listUsers !== undefined) {
        assert.equal(await caller.listUsers(100), 100);
        methods.push("ListUsers");
      }

      const rows = await rowsOf(apiKeyId, methods.length);
      assert.deepEqual(
        rows.map((row) => row.method),
        methods,
      );
      for (const row of rows) {
        assert.equal(row.service, "api.users.UserService");
        assert.equal(row.protocol, kind.protocol);
        assert.equal(row.code, "ok");
        assert.equal(row.userId, userId);
        assert.equal(row.credentialKind, CredentialKind.API_KEY);
        assert.equal(row.peerAddress, "127.0.0.1");
        assert.match(row.userAgent, kind.userAgent);
        assert.ok(row.duration !== undefined && durationMs(row.duration) > 0);
        assert.ok(row.responseBytes > 0n);
        assert.ok(row.requestBytes > 0n || kind.name === "Connect with GET");
      }
      if (kind.bytes !== undefined) {
        const request = toBinary(GetUserRequestSchema, { $typeName: "api.users.GetUserRequest", userId });
        const response = toBinary(UserResponseSchema, {
          ...{ $typeName: "api.users.UserResponse", id: userId, username },
          ...{ email: user.email, bio: "" },
        });
        assert.deepEqual(
          [rows[0]?.requestBytes, rows[0]?.responseBytes],
          kind.bytes(request.length, response.length),
        );
      }
    } finally {
      caller.close?.();
    }
  });
}

test("what curl sends and gets back is logged to the byte", async () => {
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "curl");
  const body = '{"bio": "to the byte: é"}';
  const response = await fetch(`${latchkey.url}/api.users.UserService/UpdateProfile`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": token, "x-request-id": "curl-1" },
    body,
  });
  const answer = await response.arrayBuffer();
  const [row] = await rowsOf(apiKeyId, 1);
  assert.equal(row?.requestBytes, BigInt(Buffer.byteLength(body)));
  assert.equal(row?.responseBytes, BigInt(answer.byteLength));
  assert.equal(row?.requestId, "curl-1");
  assert.equal(response.headers.get("x-request-id"), "curl-1");
});

test("a stream that grpc-js cancels is logged as canceled, and counted", async () => {
  const { apiKeyId, userId, token } = await createUserAndKey(latchkey.asStaff, "canceler");
  const { client, metadata } = grpcJs(token);
  try {
    const stream = client.ListUsers!({ limit: manyUsers }, metadata);
    const ended = new Promise<grpc.ServiceError>((resolve) => stream.once("error", resolve));
    await new Promise((resolve) => stream.once("data", resolve));
    stream.cancel();
    assert.equal((await ended).code, grpc.status.CANCELLED);
    const [row] = await rowsOf(apiKeyId, 1);
    assert.deepEqual([row?.method, row?.code, row?.userId], ["ListUsers", "canceled", userId]);
  } finally {
    client.close();
  }
});

for (const [name, transport] of [
  [
    "gRPC-Web",
    (interceptors: Interceptor[]) => createGrpcWebTransport({ baseUrl: latchkey.url, interceptors }),
  ],
  ["Connect", (interceptors: Interceptor[]) => createWebTransport({ baseUrl: latchkey.url, interceptors })],
] as const) {
  test(`a stream that a ${name} client aborts is logged as canceled, and counted`, async () => {
    const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, `aborter-${name}`);
    const client = createClient(UserService, transport([sendToken(token)]));
    const controller = new AbortController();
    const read = async () => {
      for await (const _ of client.listUsers({ limit: manyUsers }, { signal: controller.signal })) {
        controller.abort();
      }
    };
    await assert.rejects(read(), /canceled|abort/);
    const [row] = await rowsOf(apiKeyId, 1);
    assert.deepEqual([row?.method, row?.code], ["ListUsers", "canceled"]);
  });
}

test("a deadline that passes at grpc-js is logged as deadline_exceeded, and counted", async () => {
  const { apiKeyId, userId, token } = await createUserAndKey(latchkey.asStaff, "hasty");
  const { client, metadata } = grpcJs(token);
  const locked = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  try {
    await new Promise((resolve, reject) => {
      client.GetUser!({ userId: String(userId) }, metadata, (error: Error | null) =>
        error === null ? resolve(undefined) : reject(error),
      );
    });
    const lock = latchkey.sql.begin(async (sql) => {
      await sql`LOCK TABLE users IN ACCESS EXCLUSIVE MODE`;
      locked.resolve();
      await released.promise;
    });
    await locked.promise;
    const error = await new Promise<grpc.ServiceError>((resolve) => {
      client.GetUser!({ userId: String(userId) }, metadata, { deadline: Date.now() + 200 }, resolve);
    });
    assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
    released.resolve();
    await lock;
    const [, row] = await rowsOf(apiKeyId, 2);
    assert.deepEqual([row?.method, row?.code, row?.userId], ["GetUser", "deadline_exceeded", userId]);
  } finally {
    released.resolve();
    client.close();
  }
});
