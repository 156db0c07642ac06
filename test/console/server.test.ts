/** What the server says of itself: instances, settings, health, and the methods that are mounted. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { AccessLevel } from "../../src/gen/latchkey/v1/access_pb.js";
import {
  InstanceState,
  type ListMethodsResponse,
  MethodKind,
} from "../../src/gen/latchkey/v1/server_service_pb.js";
import { compileTableServices, implement } from "../auth/table-services.ts";
import { createTestDatabase } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  createUserAndKey,
  onDatabase,
  spawnServer,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

let latchkey: TestServer;

before(async () => {
  latchkey = await startServer({ publicMethods: ["api.users.UserService/GetUser"], requireAuth: true });
});
after(() => latchkey.close());

test("staff see the instances that share the database: running, stopped and lost", async () => {
  const env = { ...(await onDatabase()), DATABASE_URL: latchkey.databaseUrl };
  const [lost, second] = [await spawnServer(env), await startServer({ databaseUrl: latchkey.databaseUrl })];
  const server = () => latchkey.asStaff.server.getServer({});
  const running = await until(server, ({ instances }) => instances.length === 3);
  assert.deepEqual(
    running.instances.map(({ state }) => state),
    [InstanceState.RUNNING, InstanceState.RUNNING, InstanceState.RUNNING],
  );
  const current = running.instances.filter((instance) => instance.current);
  assert.deepEqual(
    current.map(({ id, pid }) => [id, pid]),
    [[running.instanceId, process.pid]],
  );
  const ofProcess = running.instances.find(({ pid }) => pid === lost.child.pid);
  assert.ok(ofProcess?.startedAt && ofProcess.seenAt);

  await second.close();
  lost.child.kill("SIGKILL");
  await lost.exited;
  // As half a minute later.
  await latchkey.sql`UPDATE instances SET seen_at = seen_at - interval '1 minute' WHERE id = ${ofProcess.id}`;
  const { instances } = await server();
  const states = new Map(instances.map(({ id, state }) => [id, state]));
  assert.equal(states.get(ofProcess.id), InstanceState.LOST);
  assert.equal([...states.values()].filter((state) => state === InstanceState.STOPPED).length, 1);
  assert.equal(states.get(running.instanceId), InstanceState.RUNNING);
});

test("an instance that makes no calls is seen all the same, and writes usage with it", async () => {
  const seen = async () => {
    const { instances, instanceId } = await latchkey.asStaff.server.getServer({});
    return instances.find(({ id }) => id === instanceId)?.seenAt;
  };
  const first = await seen();
  assert.ok(first && Date.now() - timestampDate(first).getTime() < 60_000);
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "counted");
  await latchkey.as(token).users.listUsers({});
  await until(
    async () => (await latchkey.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey?.requestCount,
    (count) => count === 1n,
  );
});

test("health and counts are those of the database", async () => {
  const { health, counts, version, nodeVersion, uptime, startedAt } = await latchkey.asStaff.server.getServer(
    {},
  );
  assert.equal(health?.databaseUp, true);
  const [row] = await latchkey.sql<
    { version: string }[]
  >`SELECT current_setting('server_version') AS version`;
  assert.equal(health.databaseVersion, row?.version.split(" ")[0]);
  assert.ok(health.migrationsKnown >= 4);
  assert.equal(health.migrationsApplied, health.migrationsKnown);
  assert.equal(health.changesHeard, true);
  assert.equal(health.runningRpcs, 1);
  assert.ok(health.databaseLatency);
  assert.match(version, /^\d+\.\d+\.\d+/);
  assert.equal(nodeVersion, process.version);
  assert.ok(uptime && startedAt);

  const userId = (await createUserAndKey(latchkey.asStaff, "tallied")).userId;
  const inDays = (days: number) => ({ seconds: BigInt(Math.floor(Date.now() / 1000) + days * 86_400) });
  const make = async (days?: number) => {
    const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({
      userId,
      name: "k",
      ...(days !== undefined && { expiresAt: inDays(days) }),
    });
    noteSecret(token);
    return apiKey?.id ?? "";
  };
  await make(3);
  await make(30);
  await latchkey.asStaff.keys.revokeApiKey({ id: await make() });
  await latchkey.sql`UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE id = ${await make()}`;
  await latchkey.asStaff.admin.updateUser({
    user: { id: userId, isActive: false },
    updateMask: { paths: ["is_active"] },
  });
  const after = (await latchkey.asStaff.server.getServer({})).counts;
  assert.ok(counts && after);
  assert.equal(after.users, counts.users + 1n);
  assert.equal(after.activeUsers, counts.activeUsers);
  assert.equal(after.staffUsers, counts.staffUsers);
  assert.equal(after.apiKeys, counts.apiKeys + 5n);
  assert.equal(after.activeApiKeys, counts.activeApiKeys + 3n);
  assert.equal(after.expiringApiKeys, counts.expiringApiKeys + 1n);
});

test("settings are shown as they are, and of secrets only that they are set", async () => {
  const answer = await latchkey.asStaff.server.getServer({});
  const settings = new Map(answer.settings.map((setting) => [setting.name, setting]));
  const shown = (name: string) => {
    const { value, isDefault } = settings.get(name) ?? {};
    return [value, isDefault];
  };
  assert.deepEqual(shown("LATCHKEY_REQUIRE_AUTH"), ["true", false]);
  assert.deepEqual(shown("LATCHKEY_PUBLIC_METHODS"), ["api.users.UserService/GetUser", false]);
  assert.deepEqual(shown("LATCHKEY_CACHE_MAX_STALENESS_MS"), ["2000", true]);
  assert.deepEqual(shown("LATCHKEY_SECRET_KEY"), ["(set)", false]);
  assert.deepEqual(shown("DATABASE_URL"), ["(set)", false]);
  assert.deepEqual(shown("LATCHKEY_LISTEN_DATABASE_URL"), ["", true]);

  const withPassword = (await createTestDatabase()).replace("@localhost", ":hunter2@localhost");
  noteSecret("hunter2");
  const server = await startServer({ databaseUrl: withPassword });
  try {
    const json = JSON.stringify(await server.asStaff.server.getServer({}), (_, v) =>
      typeof v === "bigint" ? String(v) : v,
    );
    assert.ok(!json.includes("hunter2"));
    assert.ok(!json.includes("sk_test"));
  } finally {
    await server.close();
  }
});

test("only staff see the server; only those who are known its methods", async () => {
  const { token } = await createUserAndKey(latchkey.asStaff, "plain");
  await assert.rejects(latchkey.as(token).server.getServer({}), { code: Code.PermissionDenied });
  await assert.rejects(latchkey.as("nonsense").server.listMethods({}), { code: Code.Unauthenticated });
});

const methodOf = ({ services }: ListMethodsResponse, service: string, method: string) =>
  services.find(({ name }) => name === service)?.methods.find(({ name }) => name === method);

test("staff are told every method, what it asks of a caller, its kind and what its proto says of it", async () => {
  const answer = await latchkey.asStaff.server.listMethods({});
  assert.deepEqual(
    answer.services.map(({ name }) => name),
    [
      "api.users.UserService",
      "envoy.service.auth.v3.Authorization",
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "latchkey.v1.ApiKeyService",
      "latchkey.v1.AuditLogService",
      "latchkey.v1.RequestLogService",
      "latchkey.v1.ServerService",
      "latchkey.v1.SessionService",
      "latchkey.v1.StatsService",
      "latchkey.v1.UserAdminService",
    ],
  );
  const getKey = methodOf(answer, "latchkey.v1.ApiKeyService", "GetApiKey");
  assert.equal(getKey?.access, AccessLevel.AUTHENTICATED);
  assert.equal(getKey.kind, MethodKind.UNARY);
  assert.equal(getKey.safe, true);
  assert.equal(getKey.inputType, "latchkey.v1.GetApiKeyRequest");
  assert.equal(getKey.outputType, "latchkey.v1.GetApiKeyResponse");
  assert.match(getKey.comment, /^Returns one key, without its token\.\n\nFails with invalid_argument/);
  assert.equal(getKey.callable, true);
  const service = answer.services.find(({ name }) => name === "latchkey.v1.ApiKeyService");
  assert.match(service?.comment ?? "", /^Keys through their whole life/);

  // The settings taken into account: public by name, and needing a principal for want of a declaration.
  assert.equal(methodOf(answer, "api.users.UserService", "GetUser")?.access, AccessLevel.PUBLIC);
  const reflection = methodOf(answer, "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo");
  assert.equal(reflection?.access, AccessLevel.AUTHENTICATED);
  assert.equal(reflection.kind, MethodKind.BIDI_STREAMING);
  assert.equal(
    methodOf(answer, "latchkey.v1.RequestLogService", "TailRequestLogs")?.kind,
    MethodKind.SERVER_STREAMING,
  );
  assert.equal(answer.apiKeyHeader, "x-api-key");
  assert.equal(answer.tokenPrefix, "lk");
  assert.equal(answer.reflection, true);
});

test("messages can be made from the descriptors, which have comments and options", async () => {
  const answer = await latchkey.asStaff.server.listMethods({});
  const set = fromBinary(FileDescriptorSetSchema, answer.fileDescriptorSet);
  const registry = createFileRegistry(set);
  for (const { name, methods } of answer.services) {
    const service = registry.getService(name);
    assert.ok(service, name);
    for (const method of methods) {
      assert.ok(registry.getMessage(method.inputType), method.inputType);
      assert.ok(registry.getMessage(method.outputType), method.outputType);
    }
  }
  const names = set.file.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  set.file.forEach((file, i) => {
    for (const imported of file.dependency) assert.ok(names.indexOf(imported) < i, `${imported} comes after`);
  });
  const keys = set.file.find(({ name }) => name === "latchkey/v1/api_key_service.proto");
  const comments = keys?.sourceCodeInfo?.location.map(({ leadingComments }) => leadingComments).join() ?? "";
  assert.match(comments, /1 to 100 characters; need not be unique/);
  assert.ok(toBinary(FileDescriptorSetSchema, set).length < 300_000);
});

test("others are told what their credential may call, and no more", async () => {
  const { userId, token } = await createUserAndKey(latchkey.asStaff, "caller");
  const own = await latchkey.as(token).server.listMethods({});
  assert.equal(methodOf(own, "latchkey.v1.UserAdminService", "ListUsers"), undefined);
  assert.equal(methodOf(own, "latchkey.v1.ServerService", "GetServer"), undefined);
  assert.equal(methodOf(own, "latchkey.v1.ApiKeyService", "ImportApiKeys"), undefined);
  assert.equal(methodOf(own, "latchkey.v1.ApiKeyService", "CreateApiKey")?.callable, true);
  const files = fromBinary(FileDescriptorSetSchema, own.fileDescriptorSet).file.map(({ name }) => name);
  assert.ok(!files.includes("latchkey/v1/audit_log_service.proto"));

  const restricted = await latchkey.asStaff.keys.createApiKey({
    userId,
    name: "restricted",
    allowedMethods: ["latchkey.v1.ServerService/ListMethods", "api.users.UserService/ListUsers"],
  });
  const few = await latchkey.as(noteSecret(restricted.token)).server.listMethods({});
  const found = few.services.flatMap(({ name, methods }) =>
    methods.map((method) => `${name}/${method.name}`),
  );
  // What is public may be called with any key.
  assert.deepEqual(
    found.filter((name) => !name.startsWith("grpc.health") && !name.startsWith("latchkey.v1.SessionService")),
    [
      "api.users.UserService/GetUser",
      "api.users.UserService/ListUsers",
      "latchkey.v1.ServerService/ListMethods",
    ],
  );
});

test("a program's own services are listed beside", async () => {
  const compiled = compileTableServices();
  const [first] = Object.values(compiled);
  assert.ok(first);
  const server = await startServer(
    { databaseUrl: latchkey.databaseUrl, reflection: false },
    {
      routes: (router) =>
        router.service(
          first,
          implement(async function* () {}),
        ),
    },
  );
  try {
    const answer = await server.asStaff.server.listMethods({});
    const own = answer.services.find(({ name }) => name === first.typeName);
    assert.deepEqual(
      own?.methods.map(({ name }) => name),
      first.methods.map(({ name }) => name),
    );
    assert.equal(answer.reflection, false);
    assert.ok(answer.services.some(({ name }) => name === UserService.typeName));
  } finally {
    await server.close();
  }
});
