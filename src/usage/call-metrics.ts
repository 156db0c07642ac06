/** What metrics tell of calls: plain numbers while calls end, samples when somebody asks. */
import { Code } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import type { CallRecorder, EndedCall } from "../auth/call.ts";
import type { MethodName } from "../auth/method-name.ts";
import type { DenialReason } from "../auth/verdict.ts";
import { Buckets, byLabel, type Metric, type Sample } from "./metric.ts";

export interface CallMetrics {
  /** Makes a method known: only what is mounted has its name in a label. */
  mounted(method: MethodName): void;
  /** Counts a call, which its caller was told this code of. */
  count(call: EndedCall, code: Code | 0): void;
  collect(): Metric[];
}

/** In seconds. */
const latencyBounds = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
const codes = [0, ...Object.values(Code).filter((code) => typeof code === "number")];
const mostCode = Math.max(...codes);

/** Of RPCs, or of verdicts that one entrance was asked for. */
const noDenials = (): Record<DenialReason, number> => ({
  MISSING: 0,
  MALFORMED: 0,
  UNKNOWN: 0,
  REVOKED: 0,
  EXPIRED: 0,
  USER_DISABLED: 0,
  STAFF_REQUIRED: 0,
  METHOD_NOT_ALLOWED: 0,
  ADDRESS_NOT_ALLOWED: 0,
  UNAVAILABLE: 0,
  CROSS_SITE: 0,
});

interface MethodFigures {
  readonly method: MethodName;
  /** By code. */
  readonly requests: number[];
  readonly durations: Buckets;
}

interface Verdicts {
  allowed: number;
  readonly denials: Record<DenialReason, number>;
}

const requests = "latchkey_requests_total";
const durations = "latchkey_request_duration_seconds";
const verdictsTotal = "latchkey_verdicts_total";

/** Creates the counters. A call costs them a look-up and some additions. */
export function createCallMetrics(): CallMetrics {
  const byMethod = new Map<MethodName, MethodFigures>();
  const other = createFigures({ service: "other", name: "other" });
  const denials = noDenials();
  const byEntrance = new Map<string, Verdicts>();

  /** Its method is whatever was asked about: no label. */
  function countVerdict({ protocol, verdict }: EndedCall): void {
    let verdicts = byEntrance.get(protocol);
    if (verdicts === undefined) {
      verdicts = { allowed: 0, denials: noDenials() };
      byEntrance.set(protocol, verdicts);
    }
    if (verdict?.denial === undefined) verdicts.allowed++;
    else verdicts.denials[verdict.denial]++;
  }

  return {
    mounted(method) {
      byMethod.set(method, createFigures(method));
    },
    count(call, code) {
      if (!isRpc(call.protocol)) {
        countVerdict(call);
        return;
      }
      const figures = byMethod.get(call.method) ?? other;
      figures.requests[code] = (figures.requests[code] ?? 0) + 1;
      figures.durations.observe(call.durationUs / 1_000_000);
      const denial = call.verdict?.denial;
      if (denial !== undefined) denials[denial]++;
    },
    collect() {
      const all = [...byMethod.values(), other];
      return [
        {
          name: requests,
          help: "RPCs that ended, by what their callers were told.",
          type: "counter",
          values: all.flatMap(requestSamples),
        },
        {
          name: durations,
          help: "How long RPCs took, from their headers to the end of their answers.",
          type: "histogram",
          values: all.flatMap((figures) => figures.durations.samples(durations, labelsOf(figures))),
        },
        byLabel(
          "counter",
          "latchkey_denials_total",
          "RPCs that the verdict refused.",
          "reason",
          Object.entries(denials),
        ),
        {
          name: verdictsTotal,
          help: "Verdicts that were asked for on others' behalf, by what they were.",
          type: "counter",
          values: [...byEntrance].flatMap(([entrance, verdicts]) => verdictSamples(entrance, verdicts)),
        },
      ];
    },
  };
}

/** Counts what a recorder records, once it is known how the caller was answered. */
export function countCalls(recorder: CallRecorder, metrics: CallMetrics): CallRecorder {
  return {
    accepts: (method) => recorder.accepts(method),
    begin: (call, header) => recorder.begin?.(call, header),
    record(call) {
      const { code } = call;
      const committed = recorder.record(call);
      if (committed === undefined) metrics.count(call, code);
      else {
        committed.then(
          () => metrics.count(call, code),
          () => metrics.count(call, Code.Unavailable),
        );
      }
      return committed;
    },
  };
}

function isRpc(protocol: string): boolean {
  return protocol === "grpc" || protocol === "connect" || protocol === "grpc-web";
}

function createFigures(method: MethodName): MethodFigures {
  return { method, requests: Array(mostCode + 1).fill(0), durations: new Buckets(latencyBounds) };
}

function labelsOf({ method }: MethodFigures) {
  return { service: method.service, method: method.name };
}

/** Of codes that there were; "ok" from the start, so that the first failure is not the first of all. */
function requestSamples(figures: MethodFigures): Sample[] {
  return codes
    .filter((code) => code === 0 || (figures.requests[code] ?? 0) > 0)
    .map((code) => ({
      labels: { ...labelsOf(figures), code: code === 0 ? "ok" : codeToString(code) },
      value: figures.requests[code] ?? 0,
    }));
}

function verdictSamples(entrance: string, { allowed, denials }: Verdicts): Sample[] {
  return [["allowed", allowed] as const, ...Object.entries(denials)].map(([outcome, value]) => ({
    labels: { entrance, outcome },
    value,
  }));
}
