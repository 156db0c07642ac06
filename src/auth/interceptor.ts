/** The one interceptor that carries authentication and counting on any Connect router. */
import { Code, ConnectError, type Interceptor, type StreamRequest } from "@connectrpc/connect";
import { type Authorization, type Authorizer, authorizationKey } from "./authorizer.ts";
import { beginCall, type CallRecorder, callKey, cannotCount, peerAddressKey, recordEnd } from "./call.ts";
import { type CallSpan, inSpan } from "./call-span.ts";
import { methodName } from "./method-name.ts";
import type { OpenStreams } from "./open-streams.ts";
import { readHeaderOf } from "./read-header.ts";
import { abortError, iterateUntilAborted, untilAborted } from "./until-aborted.ts";

type Next = Parameters<Interceptor>[0];
type AnyRequest = Parameters<Next>[0];
type AnyResponse = Awaited<ReturnType<Next>>;

export interface ApiKeyInterceptorOptions {
  authorizer: Authorizer;
  recorder: CallRecorder;
  streams: OpenStreams;
}

/**
 * Authenticates each RPC, puts its principal into the context values, counts and
 * logs it, and ends its stream when the credential is revoked or expires.
 *
 * Behind {@link apiKeyGate} it takes up the gate's verdict. Without one it looks
 * up itself, after a unary body was read. On a host that records calls itself
 * (our server) it leaves recording to the host; elsewhere it records, without
 * byte counts, which it cannot see, and ends what its client has left or whose
 * deadline has passed, whether or not the handler heeds that. The peer address it
 * knows where the host has put it into the context values ({@link peerAddressKey}).
 */
export function apiKeyInterceptor(options: ApiKeyInterceptorOptions): Interceptor {
  return (next) => async (req) => {
    const hosted = req.contextValues.get(callKey);
    const answer = async (span: CallSpan | undefined) =>
      run(options, inSpan(span, next), req, await authorize(options, req));
    return hosted === undefined ? recorded(options, req, answer) : answer(hosted.span);
  };
}

/** The gate's verdict, looked at once more: a body can take its time to come, and a revoked key must not wait that out. */
async function authorize(options: ApiKeyInterceptorOptions, req: AnyRequest): Promise<Authorization> {
  const gated = req.contextValues.get(authorizationKey);
  if (gated !== undefined) {
    return options.authorizer.reauthorize(req.method, gated, req.contextValues);
  }
  if (!options.recorder.accepts(methodName(req.method))) throw cannotCount();
  const { authorizer } = options;
  const credential = authorizer.read(readHeaderOf(req.header, req.url));
  return authorizer.authorize(req.method, credential, req.contextValues);
}

async function run(
  options: ApiKeyInterceptorOptions,
  next: Next,
  req: AnyRequest,
  authorization: Authorization,
): Promise<AnyResponse> {
  if (authorization.error !== undefined) throw authorization.error;
  if (!req.stream || authorization.credential.kind === "none") return next(req);
  return runStream(options.streams, next, req, authorization);
}

/** Runs a stream with a signal of its own, which also aborts when the credential ends. */
async function runStream(
  streams: OpenStreams,
  next: Next,
  req: StreamRequest,
  authorization: Authorization,
): Promise<AnyResponse> {
  const controller = new AbortController();
  const unwatch = streams.watch({
    method: req.method,
    authorization,
    end: (error) => controller.abort(error),
  });
  // Connect aborts the signal at the end of every RPC; the handler itself may never come back.
  req.signal.addEventListener("abort", unwatch, { once: true });
  if (req.signal.aborted) unwatch();
  const signal = AbortSignal.any([req.signal, controller.signal]);
  try {
    const res = await next({ ...req, signal, message: iterateUntilAborted(req.message, controller.signal) });
    if (!res.stream) return res;
    return { ...res, message: iterateUntilAborted(res.message, controller.signal) };
  } catch (error) {
    unwatch();
    throw error;
  }
}

/** Records a call on a host that does not: after its end, and before its answer where that is asked for. */
async function recorded(
  options: ApiKeyInterceptorOptions,
  req: AnyRequest,
  answer: (span: CallSpan | undefined) => Promise<AnyResponse>,
): Promise<AnyResponse> {
  const { signal } = req;
  const call = beginCall({
    method: methodName(req.method),
    protocol: protocolOf(req),
    requestId: req.header.get("x-request-id"),
    userAgent: req.header.get("user-agent"),
    peerAddress: req.contextValues.get(peerAddressKey),
  });
  options.recorder.begin?.(call, (name) => req.header.get(name));
  let ended: Promise<void> | undefined;
  const end = (failure?: ConnectError) => {
    call.verdict = req.contextValues.get(authorizationKey)?.verdict;
    ended ??= recordEnd(options.recorder, call, failure);
    return ended;
  };
  const fail = async (error: unknown): Promise<never> => {
    const failure = toConnectError(error, signal);
    await end(failure);
    throw signal.aborted ? failure : error;
  };
  // A client that goes may leave its host waiting for ever, and with it what it would have iterated.
  signal.addEventListener("abort", () => end(abortError(signal)).catch(() => {}), { once: true });
  let res: AnyResponse;
  try {
    res = await untilAborted(answer(call.span), signal);
  } catch (error) {
    return fail(error);
  }
  if (res.stream) return { ...res, message: watchEnd(iterateUntilAborted(res.message, signal), end, fail) };
  await end();
  return res;
}

/** The error as the caller is told it: the text of what was not meant for the wire stays here. */
function toConnectError(error: unknown, signal: AbortSignal): ConnectError {
  if (error instanceof ConnectError && error !== signal.reason) return error;
  if (signal.aborted) return abortError(signal);
  return new ConnectError("internal error", Code.Internal);
}

/** Yields what the iterable yields, then waits for what is done at its end or with its error. */
async function* watchEnd<T>(
  iterable: AsyncIterable<T>,
  end: () => Promise<void>,
  fail: (error: unknown) => Promise<never>,
): AsyncGenerator<T, void, undefined> {
  try {
    yield* iterable;
  } catch (error) {
    await fail(error);
  }
  await end();
}

/** The protocol, from what tells it apart in the headers. */
function protocolOf(req: AnyRequest): string {
  const type = req.header.get("content-type") ?? "";
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  return type.startsWith("application/grpc") ? "grpc" : "connect";
}
