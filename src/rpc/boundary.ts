/** The outermost interceptor: between what handlers throw and what callers are told. */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import { abortError, iterateUntilAborted, untilAborted } from "../auth/until-aborted.ts";

/**
 * Answers when the deadline passes, the client goes or the server stops, whether
 * or not the handler heeds its signal. What a handler throws that is no
 * ConnectError is logged here and told as `internal`, without its text.
 */
export function boundaryInterceptor(log: FastifyBaseLogger): Interceptor {
  return (next) => async (req) => {
    const fail = (error: unknown): ConnectError => {
      if (error instanceof ConnectError) return error;
      if (req.signal.aborted) return abortError(req.signal);
      log.error({ err: error, rpc: `${req.service.typeName}/${req.method.name}` }, "a handler failed");
      return new ConnectError("internal error", Code.Internal, undefined, undefined, error);
    };
    try {
      const res = await untilAborted(next(req), req.signal);
      return res.stream ? { ...res, message: convertErrors(res.message, req.signal, fail) } : res;
    } catch (error) {
      throw fail(error);
    }
  };
}

async function* convertErrors<T>(
  messages: AsyncIterable<T>,
  signal: AbortSignal,
  fail: (error: unknown) => ConnectError,
): AsyncGenerator<T, void, undefined> {
  try {
    yield* iterateUntilAborted(messages, signal);
  } catch (error) {
    throw fail(error);
  }
}
