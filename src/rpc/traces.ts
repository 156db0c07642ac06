/** OpenTelemetry: the trace that each RPC belongs to and, where somebody asks for spans, one for each RPC. */

import { Code } from "@connectrpc/connect";
import {
  type Context,
  context,
  createTraceState,
  isSpanContextValid,
  ProxyTracerProvider,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import { type Call, type CallRecorder, cannotCount, type EndedCall } from "../auth/call.ts";
import type { CallSpan } from "../auth/call-span.ts";
import type { ReadHeader } from "../auth/read-header.ts";
import { readTraceId, readTraceparent, traceIdOf } from "../auth/traceparent.ts";
import { codeName } from "./code-name.ts";

export interface TracesOptions {
  /** Makes the spans; default: the provider that is registered with @opentelemetry/api, while there is one. */
  provider?: TracerProvider | undefined;
  /** Takes out of a text from a caller what must not be passed on. */
  redact: (text: string) => string;
}

const library = "latchkey";

/**
 * A recorder before another one, which finds out what trace each RPC belongs to and
 * makes its span. Without a provider it reads one header, `traceparent` (W3C Trace
 * Context, level 1), and no more.
 *
 * Names and attributes are those of OpenTelemetry's semantic conventions for RPC
 * servers (1.45): `rpc.system.name`, `rpc.method`, `rpc.status_code`, `error.type`.
 * Of ours: `latchkey.api_key.id`, `latchkey.denial_reason`. No header and no message
 * is ever an attribute.
 */
export function recordTraces(recorder: CallRecorder, options: TracesOptions): CallRecorder {
  let tracer = options.provider?.getTracer(library);

  return {
    accepts: (method) => recorder.accepts(method),
    begin(call, header) {
      // Each time until there is one: a program may register its provider when it likes.
      tracer ??= registeredTracer();
      if (tracer !== undefined) {
        beginSpan(tracer, call, header);
        return;
      }
      call.traceId = readTraceId(header);
    },
    record(call) {
      const { span } = call;
      if (!(span instanceof RpcSpan)) return recorder.record(call);
      // The rows that wait for the database must not hold on to spans.
      call.span = undefined;
      const committed = recorder.record(call);
      if (committed === undefined) span.end(call, options.redact);
      else {
        committed.then(
          () => span.end(call, options.redact),
          () => span.end({ ...call, ...uncounted }, options.redact),
        );
      }
      return committed;
    },
  };
}

/** How a call ends that could not be counted though it had to be, whatever became of it otherwise. */
const { code, rawMessage: errorMessage } = cannotCount();
const uncounted = { code, errorMessage };

class RpcSpan implements CallSpan {
  readonly #span: Span;
  readonly #context: Context;

  constructor(span: Span, parent: Context) {
    this.#span = span;
    this.#context = trace.setSpan(parent, span);
  }

  run<T>(work: () => T): T {
    return context.with(this.#context, work);
  }

  end(call: EndedCall, redact: (text: string) => string): void {
    const span = this.#span;
    if (span.isRecording()) describeEnd(span, call, redact);
    span.end(call.startedAtMs + performance.now() - call.startedMs);
  }
}

function beginSpan(tracer: Tracer, call: Call, header: ReadHeader): void {
  const parent = parentOf(header);
  const method = `${call.method.service}/${call.method.name}`;
  const span = tracer.startSpan(
    method,
    {
      kind: SpanKind.SERVER,
      startTime: call.startedAtMs,
      attributes: {
        "rpc.system.name": call.protocol === "connect" ? "connectrpc" : "grpc",
        "rpc.method": method,
        ...(call.peerAddress !== undefined && { "client.address": call.peerAddress }),
      },
    },
    parent,
  );
  const own = span.spanContext();
  if (isSpanContextValid(own)) call.traceId = own.traceId;
  call.span = new RpcSpan(span, parent);
}

/** What is the server's fault, by the conventions; what the caller did wrong is no error of this span. */
const serverErrors: ReadonlySet<number> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

function describeEnd(span: Span, call: EndedCall, redact: (text: string) => string): void {
  const status = statusName(call);
  span.setAttribute("rpc.status_code", status);
  const { verdict } = call;
  if (verdict?.subject?.apiKeyId !== undefined) {
    span.setAttribute("latchkey.api_key.id", verdict.subject.apiKeyId);
  }
  if (verdict?.principal !== undefined) span.setAttribute("user.id", String(verdict.principal.userId));
  if (verdict?.denial !== undefined) span.setAttribute("latchkey.denial_reason", verdict.denial);
  if (!serverErrors.has(call.code)) return;
  span.setAttribute("error.type", status);
  span.setStatus({ code: SpanStatusCode.ERROR, message: redact(call.errorMessage ?? "") });
}

/** As the protocol spells it: gRPC "NOT_FOUND", Connect "not_found". */
function statusName({ code, protocol }: EndedCall): string {
  const name = codeName(code);
  if (protocol === "connect") return name;
  return code === Code.Canceled ? "CANCELLED" : name.toUpperCase();
}

/**
 * Where the span hangs: below the caller's, as whatever is registered to read it does, or
 * else `traceparent` says. A span that is active here already, such as an HTTP
 * instrumentation's, comes between the two. One of another trace counts only while
 * it goes on and the caller sent none: the span in which the server was started stays
 * active in all that its sockets bring.
 */
function parentOf(header: ReadHeader): Context {
  const active = context.active();
  const extracted = propagation.extract(ROOT_CONTEXT, header, headerGetter);
  const remote = trace.getSpanContext(extracted) ?? remoteSpan(header);
  const local = trace.getSpan(active);
  const near = remote === undefined ? local?.isRecording() : local?.spanContext().traceId === remote.traceId;
  if (near) return active;
  return remote === undefined ? extracted : trace.setSpanContext(extracted, remote);
}

const headerGetter = {
  get: (header: ReadHeader, name: string) => header(name.toLowerCase()) ?? undefined,
  // Propagators ask for names that they know.
  keys: () => [],
};

/** The tracer of the provider that somebody registered; undefined: nobody has. */
function registeredTracer(): Tracer | undefined {
  const provider = trace.getTracerProvider();
  // The API's own stands in for the one that may come.
  return provider instanceof ProxyTracerProvider
    ? provider.getDelegateTracer(library)
    : provider.getTracer(library);
}

/** The span that the caller says it calls from. */
function remoteSpan(header: ReadHeader): SpanContext | undefined {
  const traceparent = readTraceparent(header);
  if (traceparent === undefined) return undefined;
  const state = header("tracestate");
  return {
    traceId: traceIdOf(traceparent),
    spanId: traceparent.slice(36, 52),
    traceFlags: Number.parseInt(traceparent.slice(53), 16),
    isRemote: true,
    ...(state && { traceState: createTraceState(state) }),
  };
}
