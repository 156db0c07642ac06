/** Where a span hangs, when there is one, and what counts as a caller's trace. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, test } from "node:test";
import { context, ProxyTracerProvider, propagation, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  AlwaysOffSampler,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { ATTR_RPC_STATUS_CODE } from "@opentelemetry/semantic-conventions";
import { beginCall, type CallRecorder, endCall } from "../../src/auth/call.ts";
import { recordTraces } from "../../src/rpc/traces.ts";

const exporter = new InMemorySpanExporter();
const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
const otherTracer = provider.getTracer("other");
before(() => context.setGlobalContextManager(new AsyncLocalStorageContextManager()));

/** A span that a call comes from. */
function callerSpan() {
  const [traceId, spanId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-01` };
}

const spansOf = (traceId: string) =>
  exporter.getFinishedSpans().filter((span) => span.spanContext().traceId === traceId);

const traceparents: readonly (readonly [what: string, traceparent: string, isTrace: boolean])[] = [
  ["version 00", `00-${"a".repeat(32)}-${"b".repeat(16)}-00`, true],
  ["a later version that says more", `cc-${"a".repeat(32)}-${"b".repeat(16)}-01-more`, true],
  ["version 00 that says more", `00-${"a".repeat(32)}-${"b".repeat(16)}-01-more`, false],
  ["version ff", `ff-${"a".repeat(32)}-${"b".repeat(16)}-01`, false],
  ["a trace of zeros", `00-${"0".repeat(32)}-${"b".repeat(16)}-01`, false],
  ["a span of zeros", `00-${"a".repeat(32)}-${"0".repeat(16)}-01`, false],
  ["capitals", `00-${"A".repeat(32)}-${"b".repeat(16)}-01`, false],
  ["a digit too few", `00-${"a".repeat(31)}-${"b".repeat(16)}-01`, false],
  [
    "two headers in one",
    `00-${"a".repeat(32)}-${"b".repeat(16)}-01, 00-${"c".repeat(32)}-${"b".repeat(16)}-01`,
    false,
  ],
  ["nothing", "", false],
];

function begin(recorder: CallRecorder, headers: Record<string, string> = {}) {
  const method = { service: "a.B", name: "C" };
  const call = beginCall({ method, protocol: "grpc", requestId: "r", userAgent: "" });
  recorder.begin?.(call, (name) => headers[name]);
  return call;
}

const ended = { code: 0, errorMessage: undefined, requestBytes: 0, responseBytes: 0 } as const;
const counts: CallRecorder = { accepts: () => true, record: () => undefined };
const redact = (said: string) => said;

for (const [what, traceparent, isTrace] of traceparents) {
  for (const options of [{ redact }, { redact, provider }]) {
    const who = options.provider === undefined ? "without a provider" : "with a provider";
    test(`${who}, traceparent of ${what} ${isTrace ? "names the trace" : "counts as none"}`, () => {
      const call = begin(recordTraces(counts, options), { traceparent, tracestate: "vendor=1" });
      const isOfCaller = call.traceId === "a".repeat(32);
      assert.equal(isOfCaller, isTrace);
      if (!isTrace && options.provider === undefined) assert.equal(call.traceId, undefined);
      assert.equal(call.span === undefined, options.provider === undefined);
    });
  }
}

test("without a provider no span is made, and one that is registered later is asked from then on", () => {
  const recorder = recordTraces(counts, { redact });
  assert.equal(begin(recorder).span, undefined);
  trace.setGlobalTracerProvider(provider);
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  try {
    assert.ok(trace.getTracerProvider() instanceof ProxyTracerProvider);
    const caller = callerSpan();
    recorder.record(endCall(begin(recorder, { traceparent: caller.traceparent }), ended));
    const [span] = spansOf(caller.traceId);
    assert.equal(span?.parentSpanContext?.spanId, caller.spanId);
  } finally {
    trace.disable();
    propagation.disable();
  }
});

test("a span that is active here comes between the caller's and the RPC's, unless it is of another trace", () => {
  const recorder = recordTraces(counts, { redact, provider });
  const caller = callerSpan();
  const remote = { ...caller, traceFlags: 1, isRemote: true };
  const http = otherTracer.startSpan("GET", {}, trace.setSpanContext(context.active(), remote));
  const startUp = otherTracer.startSpan("start");
  const parentWithin = (span: typeof http, headers?: Record<string, string>) => {
    const call = context.with(trace.setSpan(context.active(), span), () => begin(recorder, headers));
    recorder.record(endCall(call, ended));
    return exporter.getFinishedSpans().at(-1)?.parentSpanContext?.spanId;
  };
  assert.equal(parentWithin(http, caller), http.spanContext().spanId);
  assert.equal(parentWithin(http), http.spanContext().spanId);
  assert.equal(parentWithin(startUp, caller), caller.spanId);
  startUp.end();
  assert.equal(parentWithin(startUp), undefined);
  http.end();
});

test("a call that could not be counted ends its span as its caller was told, and holds on to no span while it waits", async () => {
  const commit = Promise.withResolvers<void>();
  const kept: unknown[] = [];
  const recorder = recordTraces(
    {
      accepts: () => true,
      record(call) {
        kept.push(call.span);
        return commit.promise;
      },
    },
    { redact, provider },
  );
  const call = begin(recorder);
  const { traceId = "" } = call;
  const recorded = recorder.record(endCall(call, ended));
  assert.deepEqual(kept, [undefined]);
  assert.equal(spansOf(traceId).length, 0);
  commit.reject(new Error("down"));
  await assert.rejects(recorded ?? Promise.resolve());
  const [span] = spansOf(traceId);
  assert.equal(span?.attributes[ATTR_RPC_STATUS_CODE], "UNAVAILABLE");
  assert.equal(span?.status.code, SpanStatusCode.ERROR);
});

test("where the sampler leaves a call out, its row names the trace all the same", () => {
  const unsampled = new TracerProvider({ sampler: new AlwaysOffSampler() });
  const recorder = recordTraces(counts, { redact, provider: unsampled });
  const caller = callerSpan();
  assert.equal(begin(recorder, caller).traceId, caller.traceId);
  assert.match(begin(recorder).traceId ?? "", /^[0-9a-f]{32}$/);
});
