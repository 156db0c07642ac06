/** `/metrics` with several workers: each one's figures under its place, which its successor takes over. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { test } from "node:test";
import { createWorkerMetrics } from "../../src/cli/worker-metrics.ts";
import { gauge } from "../../src/usage/metric.ts";
import { metricsUrl, scrape } from "../harness/metrics.ts";
import {
  clientsOf,
  connectTransport,
  onDatabase,
  secretKey,
  spawnMain,
  spawnServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { workersOf } from "../harness/workers.ts";

test("a worker that is killed is shown as another in its place, and none of the others' figures change", async (t) => {
  const latchkey = await spawnServer(await onDatabase({ LATCHKEY_METRICS_PORT: "0", LATCHKEY_WORKERS: "2" }));
  t.after(() => latchkey.child.kill("SIGKILL"));
  const url = latchkey.banner.match(/http:\S+\/metrics/)?.[0] ?? "";
  const requests = (worker: string) => ["latchkey_requests_total", { worker, method: "GetUser" }] as const;
  const ofBoth = async () => {
    const now = await scrape(url);
    return ["0", "1"].map((worker) => now.sum(...requests(worker))) as [number, number];
  };
  for (let n = 0; n < 4; n++) {
    await clientsOf(connectTransport(latchkey.url, secretKey)).users.getUser({ userId: 1n });
  }
  const before = await ofBoth();
  assert.equal(before[0] + before[1], 4);

  const [killed = 0] = workersOf(latchkey);
  process.kill(killed, "SIGKILL");
  await until(
    () => workersOf(latchkey),
    (workers) => workers.length === 2 && !workers.includes(killed),
  );
  const later = await until(
    async () => scrape(url),
    (now) =>
      now.value('latchkey_worker_up{worker="0"}') === 1 && now.value('latchkey_worker_up{worker="1"}') === 1,
  );
  const after = ["0", "1"].map((worker) => later.sum(...requests(worker)));
  assert.deepEqual([...(later.labels.get("worker") ?? [])].sort(), ["0", "1", "primary"]);
  // One begins at nothing; the other goes on.
  assert.ok(after.includes(0) && after.some((count, i) => count === before[i]), `${before} and ${after}`);
  latchkey.child.kill("SIGTERM");
  assert.equal((await latchkey.exited).code, 0);
  await assert.rejects(fetch(url));
});

test("a worker that does not answer is shown as down, without its figures, and the others with theirs", async () => {
  const silent = { connected: true, send: () => true } as unknown as ChildProcess;
  const gone = { connected: false } as unknown as ChildProcess;
  const answering = {
    connected: true,
    send({ id }: { id: number }) {
      setImmediate(() => metrics.onAnswer(id, [gauge("figure", "A figure.", 7)]));
      return true;
    },
  } as unknown as ChildProcess;
  const metrics = createWorkerMetrics(
    new Map([
      [silent, 0],
      [gone, 1],
      [answering, 2],
    ]),
  );
  const [ofSilent, ofGone, ofAnswering] = await metrics.collect();
  for (const [figures, worker] of [
    [ofSilent, "0"],
    [ofGone, "1"],
  ] as const) {
    assert.deepEqual(
      figures?.map(({ name, values }) => [name, values]),
      [["latchkey_worker_up", [{ labels: { worker }, value: 0 }]]],
    );
  }
  assert.deepEqual(ofAnswering?.[1]?.values, [{ labels: { worker: "2" }, value: 7 }]);
});

test("a metrics port that is taken ends the start with the setting's name, and leaves nothing running", async (t) => {
  const first = await spawnServer(await onDatabase({ LATCHKEY_METRICS_PORT: "0" }));
  t.after(() => first.child.kill("SIGKILL"));
  const [, port = ""] = first.banner.match(/http:\/\/127\.0\.0\.1:(\d+)\/metrics/) ?? [];
  assert.match(
    await (await fetch(metricsUrl({ port: Number(port), address: "", family: "" }))).text(),
    /latchkey_info/,
  );
  for (const workers of ["1", "2"]) {
    const env = await onDatabase({ LATCHKEY_METRICS_PORT: port, LATCHKEY_WORKERS: workers });
    const { child, exited } = spawnMain([], env);
    t.after(() => child.kill("SIGKILL"));
    const { code, stderr, stdout } = await exited;
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(
      stderr,
      /^latchkey: cannot listen for Prometheus on 127\.0\.0\.1:\d+ .*LATCHKEY_METRICS_PORT/m,
    );
  }
  first.child.kill("SIGTERM");
  assert.equal((await first.exited).code, 0);
});
