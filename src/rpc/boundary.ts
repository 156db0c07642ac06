/** The outermost interceptor: between what handlers throw and what callers are told. */
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import { abortError, iterateUntilAborted, untilAborted } from "../auth/until-aborted.ts";
import { sqlState } from "../db/client.ts";
import { isLoss } from "../db/lost-connection.ts";

/**
 * Makes of what a handler threw what its caller is told. What is no ConnectError is
 * logged and told without its text: as `unavailable` where the database is away, as
 * `deadline_exceeded` where it was too slow, else as `internal`.
 */
export type Boundary = (error: unknown, method: DescMethod) => ConnectError;

export function createBoundary(log: FastifyBaseLogger): Boundary {
  return (error, method) => {
    if (error instanceof ConnectError) return error;
    log.error({ err: error, rpc: `${method.parent.typeName}/${method.name}` }, "a handler failed");
    const [message, code] = describe(error);
    return new ConnectError(message, code, undefined, undefined, error);
  };
}

/**
 * Answers when the deadline passes, the client goes or the server stops, whether
 * or not the handler heeds its signal.
 */
export function boundaryInterceptor(boundary: Boundary): Interceptor {
  return (next) => async (req) => {
    const fail = (error: unknown): ConnectError =>
      !(error instanceof ConnectError) && req.signal.aborted
        ? abortError(req.signal)
        : boundary(error, req.method);
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
