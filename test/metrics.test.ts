/** `/metrics`: what it counts, what it never shows, and who may see it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import net, { type AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { UserService } from "../src/gen/api/users/user_service_pb.js";
import { createServer } from "../src/server.ts";
import { metricsUrl, type Scrape, scrape } from "./harness/metrics.ts";
import { createTestDatabase } from "./harness/postgres.ts";
import { createUserAndKey, newDirectory, secretKey, startServer, type TestServer } from "./harness/server.ts";
import { until } from "./harness/until.ts";
import { Fixture, fixtureClient, protocols } from "./rpc/protocols.ts";

const held = Promise.withResolvers<void>();
let latchkey: TestServer;
let ada: { userId: bigint; apiKeyId: string; token: string };
const seen = () => scrape(metricsUrl(latchkey.server.metricsAddress as AddressInfo));
const staffRequests = 'service="api.users.UserService",method="GetUser"';

before(async () => {
  latchkey = await startServer(
    { metricsPort: 0, maxConcurrentRpcs: 12 },
    {
      routes(router) {
        router.service(Fixture, {
          unary: ({ value }) => ({ value }),
          async *serverStream() {
            yield {};
            await held.promise;
          },
        });
      },
    },
  );
  ada = await createUserAndKey(latchkey.asStaff, "ada");
});
after(() => latchkey.close());

/** What a metric grew by. */
async function growth(
  act: () => Promise<unknown>,
): Promise<(name: string, labels?: Record<string, string>) => number> {
  const earlier = await seen();
  await act();
  const later = await seen();
  return (name, labels) => later.sum(name, labels) - earlier.sum(name, labels);
}

test("a request is counted by service, method and code, and its time is in the histogram", async () => {
  const { users } = latchkey.as(ada.token);
  const grew = await growth(async () => {
    await users.getUser({ userId: ada.userId });
    await users.getUser({ userId: ada.userId });
    await assert.rejects(users.getUser({ userId: 999_999n }), { code: Code.NotFound });
  });
  const method = { service: "api.users.UserService", method: "GetUser" };
  assert.equal(grew("latchkey_requests_total", { ...method, code: "ok" }), 2);
  assert.equal(grew("latchkey_requests_total", { ...method, code: "not_found" }), 1);
  assert.equal(grew("latchkey_requests_total"), 3);
  assert.equal(grew("latchkey_request_duration_seconds_count", method), 3);
  assert.equal(grew("latchkey_request_duration_seconds_bucket", { ...method, le: "+Inf" }), 3);
  assert.ok(grew("latchkey_request_duration_seconds_sum", method) > 0);
  const { text } = await seen();
  const buckets = [...text.matchAll(new RegExp(`_bucket\\{${staffRequests},le="[^"]+"\\} (\\d+)`, "g"))];
  const counts = buckets.map(([, count]) => Number(count));
  assert.ok(counts.length > 10);
  assert.deepEqual(
    counts,
    counts.toSorted((a, b) => a - b),
  );
});

test("every protocol is counted, each call once", async () => {
  const grew = await growth(async () => {
    for (const protocol of protocols) await fixtureClient(latchkey, protocol).unary({});
  });
  const method = { service: "test.Fixture", method: "Unary" };
  assert.equal(grew("latchkey_requests_total", { ...method, code: "ok" }), protocols.length);
  assert.equal(grew("latchkey_request_duration_seconds_count", method), protocols.length);
});

test("denials are counted by their reason", async () => {
  const headers = { "x-api-key": "lk_nobody" };
  const anonymous = createClient(UserService, createGrpcTransport({ baseUrl: latchkey.url }));
  const grew = await growth(async () => {
    await assert.rejects(anonymous.updateProfile({}), { code: Code.Unauthenticated });
    await assert.rejects(anonymous.getUser({ userId: 1n }, { headers }), { code: Code.Unauthenticated });
    await assert.rejects(latchkey.as(ada.token).users.deleteUser({ userId: 1n }), {
      code: Code.PermissionDenied,
    });
  });
  assert.equal(grew("latchkey_denials_total", { reason: "MISSING" }), 1);
  assert.equal(grew("latchkey_denials_total", { reason: "MALFORMED" }), 1);
  assert.equal(grew("latchkey_denials_total", { reason: "STAFF_REQUIRED" }), 1);
  assert.equal(grew("latchkey_denials_total"), 3);
});

test("a verdict that is asked for is counted apart, and the method that was asked about is no label", async () => {
  const grew = await growth(async () => {
    for (const token of [ada.token, "lk_nobody"]) {
      await latchkey.asStaff.keys.verifyApiKey({ token, method: "made.up/Name" });
    }
  });
  assert.equal(grew("latchkey_verdicts_total", { entrance: "verify", outcome: "allowed" }), 1);
  assert.equal(grew("latchkey_verdicts_total", { entrance: "verify", outcome: "MALFORMED" }), 1);
  assert.equal(grew("latchkey_requests_total", { method: "VerifyApiKey", code: "ok" }), 2);
  assert.equal(grew("latchkey_requests_total"), 2);
  assert.equal(grew("latchkey_denials_total"), 0);
});

test("a key in memory is a hit, one that is read a miss", async () => {
  const bob = await createUserAndKey(latchkey.asStaff, "bob");
  const call = () => latchkey.as(bob.token).users.getUser({ userId: bob.userId });
  const first = await growth(call);
  assert.equal(first("latchkey_cache_lookups_total", { result: "miss" }), 1);
  assert.equal(first("latchkey_cache_entries"), 1);
  const second = await growth(call);
  assert.equal(second("latchkey_cache_lookups_total", { result: "miss" }), 0);
  assert.ok(second("latchkey_cache_lookups_total", { result: "hit" }) >= 1);
});

test("what runs, what is refused for want of room, open streams and connections are shown while they are", async () => {
  const transport = createGrpcTransport({ baseUrl: latchkey.url });
  const client = createClient(Fixture, transport);
  const headers = { "x-api-key": ada.token };
  const earlier = await seen();
  const streams = Array.from({ length: 12 }, () =>
    client.serverStream({}, { headers })[Symbol.asyncIterator](),
  );
  for (const stream of streams) await stream.next();
  await assert.rejects(client.unary({}, { headers }), { code: Code.ResourceExhausted });
  const during = await seen();
  assert.equal(during.value("latchkey_rpcs_running"), 12);
  assert.equal(during.value("latchkey_open_streams"), 12);
  assert.equal(during.sum("latchkey_rpcs_refused_total") - earlier.sum("latchkey_rpcs_refused_total"), 1);
  assert.ok((during.value('latchkey_connections{protocol="http2"}') ?? 0) >= 1);
  held.resolve();
  for (const stream of streams) await stream.next();
  await until(
    seen,
    (now) => now.value("latchkey_rpcs_running") === 0 && now.value("latchkey_open_streams") === 0,
  );
});

test("HTTP/1.1 connections, and those that have not said what they speak, are told apart", async () => {
  const sockets = [0, 1].map(() => net.connect(latchkey.port, "127.0.0.1"));
  sockets[0]?.write("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
  try {
    await until(
      seen,
      (now) =>
        (now.value('latchkey_connections{protocol="http1"}') ?? 0) >= 1 &&
        (now.value('latchkey_connections{protocol="undecided"}') ?? 0) >= 1,
    );
  } finally {
    for (const socket of sockets) socket.destroy();
  }
});

test("commits, pools, fence, event loop and process are shown", async () => {
  await latchkey.as(ada.token).users.getUser({ userId: ada.userId });
  const now = await until(seen, (found) => found.value("latchkey_usage_pending_calls") === 0);
  assert.ok((now.value("latchkey_usage_commit_duration_seconds_count") ?? 0) >= 1);
  assert.equal(now.value("latchkey_usage_commit_failures_total"), 0);
  assert.equal(now.value("latchkey_usage_dropped_rows_total"), 0);
  assert.equal(now.value("latchkey_usage_lag_seconds"), 0);
  assert.equal(now.value('latchkey_database_connections_max{pool="requests"}'), 10);
  assert.ok((now.value('latchkey_database_connections{pool="usage"}') ?? 0) === 1);
  assert.equal(now.value("latchkey_fence_fresh"), 1);
  assert.ok((now.value("latchkey_fence_staleness_seconds") ?? 9) < 2);
  assert.equal(now.value("latchkey_ready"), 1);
  for (const name of [
    "nodejs_eventloop_lag_p99_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "nodejs_heap_size_used_bytes",
  ]) {
    assert.ok(now.value(name) !== undefined, name);
  }
});

test("statements that run and those that wait for a connection are shown", async () => {
  const lock = await latchkey.sql.reserve();
  await lock`BEGIN`;
  await lock`LOCK TABLE users IN ACCESS EXCLUSIVE MODE`;
  const { users } = latchkey.as(ada.token);
  const waiting = Array.from({ length: 12 }, () => users.getUser({ userId: 1n }));
  const [busy, queued] = ["connections_busy", "statements_waiting"].map(
    (name) => `latchkey_database_${name}{pool="requests"}`,
  ) as [string, string];
  try {
    await until(seen, (now) => now.value(busy) === 10 && now.value(queued) === 2);
  } finally {
    await lock`ROLLBACK`;
    lock.release();
    await Promise.allSettled(waiting);
  }
  await until(seen, (now) => now.value(busy) === 0 && now.value(queued) === 0);
});

test("labels are of what is mounted and of fixed lists: no key, user, address or made-up name", async () => {
  const made = ["made.up.Service/Method", "api.users.UserService/Absent", "api.users.UserService/getuser"];
  for (const path of made) await fetch(`${latchkey.url}/${path}`, { method: "POST" });
  const { text, labels } = await seen();
  const names = ["service", "method", "code", "reason", "entrance", "outcome", "result", "protocol", "pool"];
  const ofProcess = ["le", "version", "major", "minor", "patch", "space", "kind", "type", "quantile"];
  for (const name of labels.keys()) assert.ok([...names, ...ofProcess].includes(name), name);
  assert.ok(!labels.get("method")?.has("Absent"));
  assert.ok(!labels.get("service")?.has("made.up"));
  for (const word of [ada.token, ada.apiKeyId, secretKey, "ada", "127.0.0.1", "made", "getuser"]) {
    assert.ok(!text.includes(word), `${word} is shown`);
  }
});

test("README names every metric of ours, and no other", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const start = readme.indexOf("**Metrics.**");
  const section = readme.slice(start, readme.indexOf("**Traces.**", start));
  const named = new Set(section.match(/\blatchkey_[a-z][a-z_]+/g));
  const { text } = await seen();
  const shown = [...text.matchAll(/^# TYPE (latchkey_\w+)/gm)].map(([, name]) => name);
  assert.deepEqual([...named].sort(), [...shown, "latchkey_worker_up"].sort());
});

test("the main port shows no metrics", async () => {
  assert.equal((await fetch(`${latchkey.url}/metrics`)).status, 404);
});

test("the port answers GET and HEAD of /metrics alone, to many at once", async () => {
  const url = metricsUrl(latchkey.server.metricsAddress as AddressInfo);
  assert.equal((await fetch(url, { method: "POST", body: "x" })).status, 405);
  assert.equal((await fetch(url.replace("metrics", "api.users.UserService/GetUser"))).status, 404);
  assert.equal((await fetch(url.replace("/metrics", "/"))).status, 404);
  const head = await fetch(url, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
  const many = await Promise.all(Array.from({ length: 40 }, () => scrape(`${url}?x=1`)));
  assert.equal(new Set(many.map((one: Scrape) => one.labels.get("method")?.size)).size, 1);
});

test("without the setting nothing listens, and nothing is counted for it", async () => {
  const other = await startServer();
  try {
    assert.equal(other.server.metrics, undefined);
    assert.equal(other.server.metricsAddress, undefined);
  } finally {
    await other.close();
  }
});

test("a port that is taken is refused with the setting's name, and leaves nothing open", async () => {
  const { port } = latchkey.server.metricsAddress as AddressInfo;
  const server = await createServer({
    port: 0,
    metricsPort: port,
    dataDir: newDirectory(),
    databaseUrl: await createTestDatabase(),
    logStream: { write: () => {} },
  });
  await assert.rejects(server.listen(), { name: "ConfigError", message: /LATCHKEY_METRICS_PORT/ });
  await server.close();
});

test("the port is open while the server stops, and closed afterwards", async () => {
  const other = await startServer({ metricsPort: 0 });
  const url = metricsUrl(other.server.metricsAddress as AddressInfo);
  // A scraper keeps its connection.
  const kept = request(url, { headers: { connection: "keep-alive" } }).end();
  await new Promise((resolve) => kept.once("response", (res) => res.resume().once("end", resolve)));
  await other.close();
  await assert.rejects(fetch(url));
});
