import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createHandlerContext, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import {
  HealthCheckRequestSchema,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../../src/gen/health/v1/health_pb.js";
import { createHealth, type Health, type HealthServiceOptions, healthService } from "../../src/rpc/health.ts";

const users = "api.users.UserService";
const keys = "latchkey.v1.ApiKeyService";
const timeout = 10_000;

const protos = fileURLToPath(new URL("../../node_modules/grpc-health-check/proto", import.meta.url));
const contract = loadSync("health/v1/health.proto", { includeDirs: [protos], enums: String, defaults: true })[
  "grpc.health.v1.Health"
] as grpc.ServiceDefinition;

interface Started {
  server: Http2Server;
  sessions: Set<ServerHttp2Session>;
  client: grpc.Client;
}

async function start(t: TestContext, health: Health, options?: HealthServiceOptions): Promise<Started> {
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(HealthService, healthService(health, options)) }),
  );
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  t.after(() => {
    client.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { server, sessions, client };
}

function unary(client: grpc.Client, name: "Check" | "List", request: object): Promise<object> {
  const method = contract[name]!;
  const { promise, resolve, reject } = Promise.withResolvers<object>();
  client.makeUnaryRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    (error, response) => (error === null ? resolve({ ...response }) : reject(error)),
  );
  return promise;
}

/** A Watch stream of a grpc-js client; `next` answers with a status, or "end". */
function watch(client: grpc.Client, service: string) {
  const method = contract.Watch!;
  const stream = client.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    {
      service,
    },
  );
  // Not events.once: that rejects where the call fails, even with nobody waiting.
  const status = new Promise<number>((resolve) => {
    stream.once("status", (ended: grpc.StatusObject) => resolve(ended.code));
  });
  const messages = stream.iterator({ destroyOnReturn: false }) as AsyncIterator<{ status: string }>;
  return {
    next: async () => {
      const result = await messages.next();
      return result.done ? "end" : result.value.status;
    },
    cancel: () => stream.cancel(),
    /** The final gRPC status code. */
    status,
  };
}

/** Calls Watch without a network, for what a client cannot see. */
function watchDirectly(health: Health, service: string) {
  const aborter = new AbortController();
  const ctx: HandlerContext = createHandlerContext({
    service: HealthService,
    method: HealthService.method.watch,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "http://localhost/",
    requestSignal: aborter.signal,
  });
  const request = create(HealthCheckRequestSchema, { service });
  const iterable = healthService(health).watch!(request, ctx);
  return {
    iterator: iterable[Symbol.asyncIterator](),
    signal: ctx.signal,
    abort: (reason?: unknown) => aborter.abort(reason),
  };
}

/** Waits for a condition, no longer than the test may take. */
async function until(t: TestContext, condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate(undefined, { signal: t.signal });
}

test("Check tells the overall state and that of each service", { timeout }, async (t) => {
  const health = createHealth([users, keys]);
  const { client } = await start(t, health);
  const check = (service: string) => unary(client, "Check", { service });
  assert.deepEqual(await check(""), { status: "SERVING" });
  assert.deepEqual(await check(users), { status: "SERVING" });

  health.setServiceServing(users, false);
  assert.deepEqual(await check(""), { status: "SERVING" });
  assert.deepEqual(await check(users), { status: "NOT_SERVING" });
  assert.deepEqual(await check(keys), { status: "SERVING" });
});

test("Check refuses an unknown service as not found, and names it", { timeout }, async (t) => {
  const { client } = await start(t, createHealth([users]));
  await assert.rejects(unary(client, "Check", { service: "no.such.Service" }), {
    code: grpc.status.NOT_FOUND,
    details: 'unknown service "no.such.Service"',
  });
});

test("an unknown name of a megabyte is refused like any other", { timeout }, async (t) => {
  const { client } = await start(t, createHealth([users]));
  const service = "\u00e9".repeat(500_000);
  await assert.rejects(unary(client, "Check", { service }), { code: grpc.status.NOT_FOUND });
  const watcher = watch(client, service);
  await assert.rejects(watcher.next(), { code: grpc.status.INVALID_ARGUMENT });
});

test("no service serves while the server does not, and each has its own state back afterwards", () => {
  const health = createHealth([users, keys]);
  health.setServiceServing(keys, false);
  const states = () => [undefined, "", users, keys].map((name) => health.isServing(name));
  assert.deepEqual(states(), [true, true, true, false]);
  health.setServing(false);
  assert.deepEqual(states(), [false, false, false, false]);
  health.setServiceServing(keys, true);
  assert.deepEqual(states(), [false, false, false, false]);
  health.setServing(true);
  assert.deepEqual(states(), [true, true, true, true]);
  assert.equal(health.isServing("no.such.Service"), false);
});

test("List tells the state of all services and of the server", { timeout }, async (t) => {
  const health = createHealth([users, keys]);
  const { client } = await start(t, health);
  health.setServiceServing(keys, false);
  assert.deepEqual(await unary(client, "List", {}), {
    statuses: {
      "": { status: "SERVING" },
      [users]: { status: "SERVING" },
      [keys]: { status: "NOT_SERVING" },
    },
  });
});

test("Watch tells the state at once, then each change and no repetition", { timeout }, async (t) => {
  const health = createHealth([users, keys]);
  const { client } = await start(t, health);
  const watcher = watch(client, users);
  assert.equal(await watcher.next(), "SERVING");
  health.setServing(true);
  health.setServiceServing(keys, false);
  health.setServiceServing(users, false);
  assert.equal(await watcher.next(), "NOT_SERVING");
  health.setServiceServing(users, true);
  assert.equal(await watcher.next(), "SERVING");
  health.setServing(false);
  assert.equal(await watcher.next(), "NOT_SERVING");
});

test("Watch of an unknown service stays open and tells when it becomes known", { timeout }, async (t) => {
  const health = createHealth([]);
  const { client } = await start(t, health);
  const watcher = watch(client, users);
  assert.equal(await watcher.next(), "SERVICE_UNKNOWN");
  health.setServing(false);
  health.setServing(true);
  health.setServiceServing(users, true);
  assert.equal(await watcher.next(), "SERVING");
});

test("a cancelled Watch leaves nothing behind", { timeout }, async (t) => {
  const health = createHealth([users]);
  const { client } = await start(t, health);
  const watchers = [watch(client, ""), watch(client, users), watch(client, "no.such.Service")];
  for (const watcher of watchers) await watcher.next();
  assert.equal(health.listeners, 3);
  for (const watcher of watchers) {
    watcher.cancel();
    await assert.rejects(watcher.next(), { code: grpc.status.CANCELLED });
  }
  await until(t, () => health.listeners === 0);
});

test("a Watch cancelled while its reader is stalled leaves nothing behind", async () => {
  const health = createHealth([users]);
  const { iterator, abort } = watchDirectly(health, users);
  await iterator.next();
  assert.equal(health.listeners, 1);
  // Nobody resumes the iterator after this.
  abort();
  assert.equal(health.listeners, 0);
});

test("a Watch that ends by itself leaves nothing behind", async () => {
  const health = createHealth([users]);
  const { iterator, signal } = watchDirectly(health, users);
  const before = getEventListeners(signal, "abort").length;
  await iterator.next();
  assert.equal(getEventListeners(signal, "abort").length, before + 1);
  await iterator.return?.();
  assert.equal(health.listeners, 0);
  assert.equal(getEventListeners(signal, "abort").length, before);
});

for (const { name, reason, code } of [
  { name: "a cancellation", reason: undefined, code: Code.Canceled },
  {
    name: "a deadline",
    reason: new ConnectError("late", Code.DeadlineExceeded),
    code: Code.DeadlineExceeded,
  },
  {
    name: "a refusal",
    reason: new ConnectError("revoked", Code.Unauthenticated),
    code: Code.Unauthenticated,
  },
]) {
  test(`a waiting Watch that is ended by ${name} fails with its code`, { timeout }, async () => {
    const { iterator, abort } = watchDirectly(createHealth([users]), users);
    await iterator.next();
    const waiting = iterator.next();
    abort(reason);
    await assert.rejects(
      Promise.resolve(waiting),
      (error) => error instanceof ConnectError && error.code === code,
    );
  });
}

test("a slow reader is told the latest state and none of those before", async () => {
  const health = createHealth([users]);
  const { iterator } = watchDirectly(health, users);
  assert.deepEqual(await iterator.next(), { done: false, value: { status: Status.SERVING } });
  for (let i = 0; i <= 10_000; i++) health.setServing(i % 2 === 1);
  assert.deepEqual(await iterator.next(), { done: false, value: { status: Status.NOT_SERVING } });
  health.close();
  assert.equal((await iterator.next()).done, true);
});

test("one Watch stream above the bound is refused, and admitted once another ended", {
  timeout,
}, async (t) => {
  const health = createHealth([users]);
  const { client } = await start(t, health, { maxWatchers: 2 });
  const first = watch(client, users);
  const second = watch(client, "no.such.Service");
  await Promise.all([first.next(), second.next()]);
  await assert.rejects(watch(client, users).next(), { code: grpc.status.RESOURCE_EXHAUSTED });

  second.cancel();
  await assert.rejects(second.next(), { code: grpc.status.CANCELLED });
  await until(t, () => health.listeners === 1);
  assert.equal(await watch(client, users).next(), "SERVING");
});

test("a thousand Watch streams are admitted by default and no more", async () => {
  const health = createHealth([users]);
  const service = healthService(health);
  const open = () => {
    const ctx = createHandlerContext({
      service: HealthService,
      method: HealthService.method.watch,
      protocolName: "grpc",
      requestMethod: "POST",
      url: "http://localhost/",
    });
    return service.watch!(create(HealthCheckRequestSchema, { service: users }), ctx)
      [Symbol.asyncIterator]()
      .next();
  };
  for (let i = 0; i < 1000; i++) await open();
  await assert.rejects(Promise.resolve(open()), { code: Code.ResourceExhausted });
});

test("close tells every watcher NOT_SERVING and lets a graceful stop finish", { timeout }, async (t) => {
  const health = createHealth([users]);
  const { client, server, sessions } = await start(t, health);
  const known = [watch(client, ""), watch(client, users)];
  const unknown = watch(client, "no.such.Service");
  for (const watcher of [...known, unknown]) await watcher.next();

  const stopped = once(server, "close");
  server.close();
  for (const session of sessions) session.close();
  health.close();
  for (const watcher of known) {
    assert.equal(await watcher.next(), "NOT_SERVING");
    assert.equal(await watcher.next(), "end");
    assert.equal(await watcher.status, grpc.status.OK);
  }
  assert.equal(await unknown.next(), "end");
  await stopped;
  assert.equal(health.listeners, 0);
});

test("a Watch opened after close is told NOT_SERVING and ends", { timeout }, async (t) => {
  const health = createHealth([users]);
  const { client } = await start(t, health);
  health.close();
  const watcher = watch(client, users);
  assert.equal(await watcher.next(), "NOT_SERVING");
  assert.equal(await watcher.next(), "end");
});

test("a closed health never serves again", () => {
  const health = createHealth([users]);
  health.close();
  health.close();
  health.setServing(true);
  health.setServiceServing(users, true);
  health.setServiceServing("late.Service", true);
  assert.equal(health.closed, true);
  assert.deepEqual(
    [health.isServing(), health.isServing(users), health.knows("late.Service")],
    [false, false, false],
  );
});
