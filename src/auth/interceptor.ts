/** The one interceptor that carries authentication and counting on any Connect router. */
import { Code, ConnectError, type Interceptor, type StreamRequest } from "@connectrpc/connect";
import { type Authorization, type Authorizer, authorizationKey } from "./authorizer.ts";
import { beginCall, type Call, type CallRecorder, callKey, endCall } from "./call.ts";
import { cannotCount } from "./gate.ts";
import type { OpenStreams } from "./open-streams.ts";
import { iterateUntilAborted } from "./until-aborted.ts";

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
 * byte counts and peer address, which it cannot see.
 */
export function apiKeyInterceptor(options: ApiKeyInterceptorOptions): Interceptor {
  return (next) => async (req) => {
    const gated = req.contextValues.get(authorizationKey);
    const hosted = req.contextValues.get(callKey) !== undefined;
    if (hosted) return run(options, next, req, gated ?? (await authorize(options, req)));
    return recorded(options, req, async () =>
      run(options, next, req, gated ?? (await authorize(options, req))),
    );
  };
}

async function authorize(options: ApiKeyInterceptorOptions, req: AnyRequest): Promise<Authorization> {
  if (!options.recorder.accepts()) throw cannotCount();
  return options.authorizer.authorize(req.method, (name) => req.header.get(name), req.contextValues);
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
  const signal = AbortSignal.any([req.signal, controller.signal]);
  try {
    const res = await next({ ...req, signal, message: iterateUntilAborted(req.message, controller.signal) });
    if (!res.stream) return res;
    return { ...res, message: finallyRun(iterateUntilAborted(res.message, controller.signal), unwatch) };
  } catch (error) {
    unwatch();
    throw error;
  }
}

/** Records a call on a host that does not: after its end, and before its answer where that is asked for. */
async function recorded(
  options: ApiKeyInterceptorOptions,
  req: AnyRequest,
  answer: () => Promise<AnyResponse>,
): Promise<AnyResponse> {
  const call = beginCall({
    method: req.method,
    protocol: protocolOf(req),
    requestId: req.header.get("x-request-id"),
    userAgent: req.header.get("user-agent"),
  });
  const end = async (error?: unknown) => {
    call.verdict = req.contextValues.get(authorizationKey)?.verdict;
    await recordEnd(options.recorder, call, error);
  };
  let res: AnyResponse;
  try {
    res = await answer();
  } catch (error) {
    await end(error);
    throw error;
  }
  if (res.stream) return { ...res, message: finallyRun(res.message, end, req.signal) };
  await end();
  return res;
}

async function recordEnd(recorder: CallRecorder, call: Call, error: unknown): Promise<void> {
  const failure = error === undefined ? undefined : toConnectError(error);
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

/** The error as the caller is told it: the text of what was not meant for the wire stays here. */
function toConnectError(error: unknown): ConnectError {
  return error instanceof ConnectError ? error : new ConnectError("internal error", Code.Internal);
}

/** Yields what the iterable yields and calls back once at its end, with its error where it failed. */
async function* finallyRun<T>(
  iterable: AsyncIterable<T>,
  onEnd: (error?: unknown) => void | Promise<void>,
  signal?: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  let outcome: { error: unknown } | "ended" | "returned" = "returned";
  try {
    yield* iterable;
    outcome = "ended";
  } catch (error) {
    outcome = { error };
    throw error;
  } finally {
    if (outcome === "ended") await onEnd();
    else if (outcome === "returned")
      await onEnd(signal?.reason ?? new ConnectError("canceled", Code.Canceled));
    else await onEnd(outcome.error);
  }
}

/** The protocol, from what tells it apart in the headers. */
function protocolOf(req: AnyRequest): string {
  const type = req.header.get("content-type") ?? "";
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  return type.startsWith("application/grpc") ? "grpc" : "connect";
}
