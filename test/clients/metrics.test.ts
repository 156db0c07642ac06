/** Prometheus' own parser reads `/metrics`, of one instance and of several workers. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Code } from "@connectrpc/connect";
import { metricsUrl } from "../harness/metrics.ts";
import { findPython } from "../harness/python.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  onDatabase,
  secretKey,
  spawnServer,
  startServer,
} from "../harness/server.ts";

interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly { name: string; labels: Record<string, string>; value: string }[];
}

let python: string;
before(async () => {
  python = await findPython("prometheus_client");
});

async function parse(url: string): Promise<Family[]> {
  const text = await (await fetch(url)).text();
  const script = fileURLToPath(new URL("read_metrics.py", import.meta.url));
  const child = spawn(python, [script], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(text);
  const [families, [code]] = await Promise.all([json(child.stdout), once(child, "exit")]);
  assert.equal(code, 0);
  return families as Family[];
}

/** Each sample belongs to its family by name, each family comes once, with its help, and each series once. */
function assertWellFormed(families: readonly Family[]): void {
  assert.equal(new Set(families.map(({ name }) => name)).size, families.length);
  const series = new Set<string>();
  for (const { name, type, help, samples } of families) {
    assert.ok(["counter", "gauge", "histogram", "summary"].includes(type), `${name} is ${type}`);
    assert.notEqual(help, "", name);
    for (const sample of samples) {
      assert.ok(sample.name.startsWith(name), `${sample.name} in ${name}`);
      const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
      assert.ok(!series.has(key), `${key} comes twice`);
      series.add(key);
    }
    if (type === "histogram") assertHistogram(name, samples);
  }
}

/** Its buckets ascend, and the last holds as many as the count says. */
function assertHistogram(name: string, samples: Family["samples"]): void {
  const bySeries = Map.groupBy(samples, ({ labels: { le: _, ...rest } }) => JSON.stringify(rest));
  for (const [series, parts] of bySeries) {
    const buckets = parts.filter((part) => part.name === `${name}_bucket`).map(({ value }) => Number(value));
    assert.deepEqual(
      buckets,
      buckets.toSorted((a, b) => a - b),
      `${name} ${series}`,
    );
    const count = parts.find((part) => part.name === `${name}_count`);
    assert.equal(Number(count?.value), buckets.at(-1), `${name} ${series}`);
  }
}

function sampleOf(
  families: readonly Family[],
  name: string,
  labels: Record<string, string>,
): number | undefined {
  const found = families
    .flatMap(({ samples }) => samples)
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value));
  return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + Number(value), 0);
}

test("it finds every request, denial and latency of one instance", async () => {
  const latchkey = await startServer({ metricsPort: 0 });
  try {
    const ada = await createUserAndKey(latchkey.asStaff, "ada");
    const asAda = latchkey.as(ada.token);
    for (let n = 0; n < 5; n++) await asAda.users.getUser({ userId: ada.userId });
    await assert.rejects(asAda.users.deleteUser({ userId: 1n }), { code: Code.PermissionDenied });
    await latchkey.asStaff.keys.revokeApiKey({ id: ada.apiKeyId });
    await assert.rejects(asAda.users.getUser({ userId: ada.userId }), { code: Code.Unauthenticated });

    const families = await parse(metricsUrl(latchkey.server.metricsAddress as AddressInfo));
    assertWellFormed(families);
    const method = { service: "api.users.UserService", method: "GetUser" };
    assert.equal(sampleOf(families, "latchkey_requests_total", { ...method, code: "ok" }), 5);
    assert.equal(sampleOf(families, "latchkey_requests_total", { ...method, code: "unauthenticated" }), 1);
    assert.equal(sampleOf(families, "latchkey_request_duration_seconds_count", method), 6);
    assert.equal(sampleOf(families, "latchkey_denials_total", { reason: "REVOKED" }), 1);
    assert.equal(sampleOf(families, "latchkey_denials_total", { reason: "STAFF_REQUIRED" }), 1);
    const types = new Map(families.map(({ name, type }) => [name, type]));
    for (const [name, type] of [
      ["latchkey_requests", "counter"],
      ["latchkey_request_duration_seconds", "histogram"],
      ["latchkey_usage_commit_duration_seconds", "histogram"],
      ["latchkey_cache_lookups", "counter"],
      ["latchkey_fence_staleness_seconds", "gauge"],
      ["latchkey_usage_pending_calls", "gauge"],
      ["latchkey_usage_dropped_rows", "counter"],
      ["latchkey_database_connections", "gauge"],
      ["latchkey_connections", "gauge"],
      ["latchkey_rpcs_running", "gauge"],
      ["nodejs_eventloop_lag_p99_seconds", "gauge"],
      ["process_cpu_seconds", "counter"],
    ] as const) {
      assert.equal(types.get(name), type, name);
    }
  } finally {
    await latchkey.close();
  }
});

test("it finds the requests of every worker, told apart, and their sum", async (t) => {
  const env = await onDatabase({ LATCHKEY_METRICS_PORT: "0", LATCHKEY_WORKERS: "2" });
  const latchkey = await spawnServer(env);
  t.after(() => latchkey.child.kill("SIGKILL"));
  const url = latchkey.banner.match(/http:\S+\/metrics/)?.[0] ?? "";
  for (let n = 0; n < 6; n++) {
    // A transport, and so a connection, each.
    await clientsOf(connectTransport(latchkey.url, secretKey)).users.getUser({ userId: 1n });
  }
  const families = await parse(url);
  assertWellFormed(families);
  const method = { service: "api.users.UserService", method: "GetUser", code: "ok" };
  assert.equal(sampleOf(families, "latchkey_requests_total", method), 6);
  for (const worker of ["0", "1", "primary"]) {
    assert.ok((sampleOf(families, "process_cpu_seconds_total", { worker }) ?? 0) > 0, worker);
  }
  latchkey.child.kill("SIGTERM");
  assert.equal((await latchkey.exited).code, 0);
});
