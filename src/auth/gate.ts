/** The verdict before the body: a router's `requestGate`. */
import type { ConnectError, HandlerContext } from "@connectrpc/connect";
import { type Authorizer, authorizationKey } from "./authorizer.ts";
import {
  beginCall,
  type Call,
  type CallRecorder,
  callKey,
  cannotCount,
  peerAddressKey,
  recordEnd,
} from "./call.ts";
import { methodName } from "./method-name.ts";
import { readHeaderOf } from "./read-header.ts";

/**
 * A `requestGate` for a Connect router: decides from the headers alone, before
 * any of the body is read, for unary RPCs and streams alike. `apiKeyInterceptor`
 * takes up its verdict. Throws the refusal; throws `unavailable` where the call
 * could not be counted and counting is a condition of answering.
 *
 * What it refuses does not reach the interceptor: on a host that records no calls
 * itself, it records the refusal.
 */
export function apiKeyGate(options: {
  authorizer: Authorizer;
  recorder: CallRecorder;
}): (context: HandlerContext) => void | Promise<void> {
  const { authorizer, recorder } = options;

  function refuse(context: HandlerContext, call: Call | undefined, error: ConnectError): Promise<never> {
    if (call === undefined) throw error;
    // Here, as what passes is begun by the interceptor.
    recorder.begin?.(call, (name) => context.requestHeader.get(name));
    call.verdict = context.values.get(authorizationKey)?.verdict;
    return recordEnd(recorder, call, error).then(() => {
      throw error;
    });
  }

  return (context) => {
    const call = context.values.get(callKey) === undefined ? begin(context) : undefined;
    if (!recorder.accepts(methodName(context.method))) return refuse(context, call, cannotCount());
    const authorization = authorizer.authorize(
      context.method,
      authorizer.read(readHeaderOf(context.requestHeader, context.url)),
      context.values,
    );
    if (authorization instanceof Promise) {
      return authorization.then(({ error }) => {
        if (error !== undefined) return refuse(context, call, error);
      });
    }
    if (authorization.error !== undefined) return refuse(context, call, authorization.error);
  };
}

function begin(context: HandlerContext): Call {
  return beginCall({
    method: methodName(context.method),
    protocol: context.protocolName,
    requestId: context.requestHeader.get("x-request-id"),
    userAgent: context.requestHeader.get("user-agent"),
    peerAddress: context.values.get(peerAddressKey),
  });
}
