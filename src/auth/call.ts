/** One RPC, from its headers to its end: what the entrances learn of it and what is recorded. */
import { Code, ConnectError, type ContextKey, createContextKey } from "@connectrpc/connect";
import { compactText } from "../compact.ts";
import { type IdSeries, idSeriesAt } from "./call-id.ts";
import type { CallSpan } from "./call-span.ts";
import type { MethodName } from "./method-name.ts";
import type { ReadHeader } from "./read-header.ts";
import type { Verdict } from "./verdict.ts";

/** What is known of an RPC while it runs. */
export interface Call {
  /** UUIDv7. */
  readonly id: string;
  /** What the id has in common with others. */
  readonly idSeries: IdSeries;
  readonly method: MethodName;
  /** "grpc", "grpc-web" or "connect"; "verify", "ext_authz" or "forward_auth" for a verdict that was asked for. */
  readonly protocol: string;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** On the clock of performance.now(). */
  readonly startedMs: number;
  readonly requestId: string;
  readonly userAgent: string;
  /** IP address; undefined where the host does not tell. */
  readonly peerAddress: string | undefined;
  /** Undefined until the verdict. */
  verdict: Verdict | undefined;
  /** The trace that it belongs to, 32 hexadecimal digits; undefined: none. */
  traceId: string | undefined;
  /** Undefined: nobody asks for spans, or it has ended. */
  span: CallSpan | undefined;
}

/** An RPC that ended, however it ended. */
export interface EndedCall extends Readonly<Omit<Call, "span">>, Pick<Call, "span"> {
  /** 0: ok. */
  readonly code: Code | 0;
  readonly durationUs: number;
  /** The message that the caller was told; undefined for ok. */
  readonly errorMessage: string | undefined;
  /** Body bytes; undefined where the host does not tell. */
  readonly requestBytes: number | undefined;
  readonly responseBytes: number | undefined;
}

/** Counts and logs calls. May be called concurrently. */
export interface CallRecorder {
  /** False: calls of this method cannot be recorded now, and recording them is a condition of answering. */
  accepts(method: MethodName): boolean;
  /** Told of an RPC as it begins, with the headers that it came with. What was begun is recorded. */
  begin?(call: Call, header: ReadHeader): void;
  /**
   * Takes a call. Answers with a promise where the call may be answered only once
   * it is committed; the promise rejects where that failed.
   */
  record(call: EndedCall): undefined | Promise<void>;
}

/** Where a host that records calls itself puts the one that it began. */
export const callKey: ContextKey<Call | undefined> = createContextKey<Call | undefined>(undefined, {
  description: "latchkey call",
});

/** Where a host that records no calls can put the IP address that a request comes from. */
export const peerAddressKey: ContextKey<string | undefined> = createContextKey<string | undefined>(
  undefined,
  {
    description: "latchkey peer address",
  },
);

/** Characters kept of a text that a caller can choose: rows are kept in memory by their number. */
const maxTextLength = 512;

/** Begins a call. What comes from headers is cut to length; a request id of odd shape is replaced. */
export function beginCall(begin: {
  method: MethodName;
  protocol: string;
  requestId: string | null | undefined;
  userAgent: string | null | undefined;
  peerAddress?: string | undefined;
  traceId?: string | undefined;
}): Call {
  const startedAtMs = Date.now();
  const idSeries = idSeriesAt(startedAtMs);
  const id = idSeries.next();
  const given = begin.requestId;
  const call: OpenCall = {
    id,
    idSeries,
    method: begin.method,
    protocol: begin.protocol,
    startedAtMs,
    startedMs: performance.now(),
    requestId: given && /^[\w.:-]{1,128}$/.test(given) ? given : id,
    userAgent: cut(begin.userAgent ?? ""),
    peerAddress: begin.peerAddress,
    verdict: undefined,
    traceId: begin.traceId,
    span: undefined,
    code: 0,
    durationUs: 0,
    errorMessage: undefined,
    requestBytes: undefined,
    responseBytes: undefined,
  };
  return call;
}

/** As it is made: one object from the first to the last, so that ending a call makes no second one. */
type OpenCall = { -readonly [Field in keyof EndedCall]: EndedCall[Field] };

/** Ends a call that `beginCall` began, once: it is the ended one from then on. */
export function endCall(
  call: Call,
  end: Pick<EndedCall, "code" | "errorMessage" | "requestBytes" | "responseBytes">,
): EndedCall {
  const ended = call as OpenCall;
  // What a handler passes on from elsewhere may be no code at all.
  ended.code = end.code === 0 || end.code in Code ? end.code : Code.Unknown;
  ended.errorMessage = end.errorMessage === undefined ? undefined : cut(withoutInput(end.errorMessage));
  ended.requestBytes = end.requestBytes;
  ended.responseBytes = end.responseBytes;
  ended.durationUs = Math.round((performance.now() - call.startedMs) * 1000);
  return ended;
}

/** Protobuf quotes JSON that it cannot read, and what stands there may be a token. The caller may see it, the log not. */
function withoutInput(message: string): string {
  return message.replace(/^(cannot decode .{1,300}? from JSON)\b.*$/s, "$1");
}

/** Cuts a text, by way of bytes: a slice alone would hold on to the whole of it. */
function cut(text: string): string {
  if (text.length <= maxTextLength) return text;
  return compactText(text.slice(0, maxTextLength));
}

/** Records an RPC on a host that does not. Rejects with `unavailable` where it had to be counted and was not. */
export async function recordEnd(
  recorder: CallRecorder,
  call: Call,
  failure: ConnectError | undefined,
): Promise<void> {
  try {
    await recorder.record(
      endCall(call, {
        code: failure?.code ?? 0,
        errorMessage: failure?.rawMessage,
        requestBytes: undefined,
        responseBytes: undefined,
      }),
    );
  } catch {
    throw cannotCount();
  }
}

/** The error where strict counting is asked for and the database does not take it. */
export function cannotCount(): ConnectError {
  return new ConnectError("this call could not be counted just now: try again", Code.Unavailable);
}
