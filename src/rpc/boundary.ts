/** The outermost interceptor: between what handlers throw and what callers are told. */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import { abortError, iterateUntilAborted, untilAborted } from "../auth/until-aborted.ts";
import { sqlState } from "../db/client.ts";
import { isLoss } from "../db/lost-connection.ts";

/**
 * Answers when the deadline passes, the client goes or the server stops, whether
 * or not the handler heeds its signal. What a handler throws that is no
 * ConnectError is logged here and told without its text: as `unavailable` where the
 * database is away, as `deadline_exceeded` where it was too slow, else as `internal`.
 */
export function boundaryInterceptor(log: FastifyBaseLogger): Interceptor {
  return (next) => async (req) => {
    const fail = (error: unknown): ConnectError => {
      if (error instanceof ConnectError) return error;
      if (req.signal.aborted) return abortError(req.signal);
      log.error({ err: error, rpc: `${req.service.typeName}/${req.method.name}` }, "a handler failed");
      const [message, code] = describe(error);
      return new ConnectError(message, code, undefined, undefined, error);
    };
    try {
      const res = await untilAborted(next(req), req.signal);
      return res.stream ? { ...res, message: convertErrors(res.message, req.signal, fail) } : res;
    } catch (error) {
      throw fail(error);
    }
  };
}

const queryCanceled = "57014";
const tooManyConnections = "53300";

function describe(error: unknown): [string, Code] {
  const state = sqlState(error);
  if (state === queryCanceled) {
    return ["the database took too long: ask for less, or again later", Code.DeadlineExceeded];
  }
  if (state === tooManyConnections || isLoss(error)) {
    return ["the database does not answer: try again later", Code.Unavailable];
  }
  return ["internal error", Code.Internal];
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
