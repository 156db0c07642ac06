/** Calls in metrics: what their callers were told, and names of what is mounted alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { beginCall, type CallRecorder, type EndedCall, endCall } from "../../src/auth/call.ts";
import { countCalls, createCallMetrics } from "../../src/usage/call-metrics.ts";
import { createCommitMetrics } from "../../src/usage/commit-metrics.ts";
import { Buckets, type Metric } from "../../src/usage/metric.ts";

const method = { service: "a.B", name: "C" };

function callOf(change: Partial<EndedCall> = {}): EndedCall {
  const call = beginCall({ method, protocol: "grpc", requestId: "r", userAgent: "" });
  return {
    ...endCall(call, { code: 0, errorMessage: undefined, requestBytes: 0, responseBytes: 0 }),
    ...change,
  };
}

/** Series that are not zero. */
function seriesOf(metrics: readonly Metric[], name: string): [labels: string, value: number][] {
  const found = metrics.find((metric) => metric.name === name);
  return (found?.values ?? [])
    .filter(({ value }) => value !== 0)
    .map(({ labels, value }) => [Object.values(labels).join(" "), value]);
}

test("where a call must be committed before its answer, it is counted as it was answered", async () => {
  const commit = Promise.withResolvers<void>();
  const recorder: CallRecorder = { accepts: () => true, record: () => commit.promise };
  const metrics = createCallMetrics();
  metrics.mounted(method);
  const recorded = countCalls(recorder, metrics).record(callOf());
  assert.deepEqual(seriesOf(metrics.collect(), "latchkey_requests_total"), []);
  commit.reject(new Error("down"));
  await assert.rejects(recorded ?? Promise.resolve());
  assert.deepEqual(seriesOf(metrics.collect(), "latchkey_requests_total"), [["a.B C unavailable", 1]]);
});

test("a method that is not mounted has no name of its own, and what another entrance asked about has none at all", () => {
  const metrics = createCallMetrics();
  metrics.mounted(method);
  for (let n = 0; n < 1000; n++) {
    const made = { service: `made.Up${n}`, name: "M" };
    metrics.count(callOf({ method: made }), 0);
    metrics.count(callOf({ method: made, protocol: "verify" }), 0);
  }
  const collected = metrics.collect();
  assert.deepEqual(seriesOf(collected, "latchkey_requests_total"), [["other other ok", 1000]]);
  assert.deepEqual(seriesOf(collected, "latchkey_verdicts_total"), [["verify allowed", 1000]]);
});

test("every code has its series once there was one", () => {
  const metrics = createCallMetrics();
  metrics.mounted(method);
  const codes = Object.values(Code).filter((code) => typeof code === "number");
  for (const code of codes) metrics.count(callOf({ code }), code);
  assert.equal(seriesOf(metrics.collect(), "latchkey_requests_total").length, 16);
});

test("a value is in the bucket whose bound it does not pass, and in all above", () => {
  const buckets = new Buckets([1, 2, 5]);
  assert.deepEqual(buckets.samples("m", {}), []);
  for (const value of [0, 1, 1.5, 5, 6]) buckets.observe(value);
  assert.deepEqual(
    buckets.samples("m", { a: "b" }).map(({ metricName, labels, value }) => [metricName, labels.le, value]),
    [
      ["m_bucket", 1, 2],
      ["m_bucket", 2, 3],
      ["m_bucket", 5, 4],
      ["m_bucket", "+Inf", 5],
      ["m_sum", undefined, 13.5],
      ["m_count", undefined, 5],
    ],
  );
});

test("commits that fail are counted apart, and fail all the same", async () => {
  const commits = createCommitMetrics();
  let fails = true;
  const write = commits.watch(async () => {
    if (fails) throw new Error("down");
  });
  const batch = {} as Parameters<typeof write>[0];
  await assert.rejects(write(batch), /down/);
  fails = false;
  await write(batch);
  const collected = commits.collect();
  assert.deepEqual(seriesOf(collected, "latchkey_usage_commit_failures_total"), [["", 1]]);
  const count = collected[0]?.values.find(({ metricName }) => metricName?.endsWith("_count"));
  assert.equal(count?.value, 1);
});
