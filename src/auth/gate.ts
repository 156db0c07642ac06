/** The verdict before the body: a router's `requestGate`. */
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Authorizer } from "./authorizer.ts";
import type { CallRecorder } from "./call.ts";

/**
 * A `requestGate` for a Connect router: decides from the headers alone, before
 * any of the body is read, for unary RPCs and streams alike. `apiKeyInterceptor`
 * takes up its verdict. Throws the refusal; throws `unavailable` where the call
 * could not be counted and counting is a condition of answering.
 */
export function apiKeyGate(options: {
  authorizer: Authorizer;
  recorder: CallRecorder;
}): (context: HandlerContext) => void | Promise<void> {
  return (context) => {
    if (!options.recorder.accepts()) throw cannotCount();
    const authorization = options.authorizer.authorize(
      context.method,
      (name) => context.requestHeader.get(name),
      context.values,
    );
    if (authorization instanceof Promise) {
      return authorization.then(({ error }) => {
        if (error !== undefined) throw error;
      });
    }
    if (authorization.error !== undefined) throw authorization.error;
  };
}

/** The error where strict counting is asked for and the database does not take it. */
export function cannotCount(): ConnectError {
  return new ConnectError("this call could not be counted just now: try again", Code.Unavailable);
}
