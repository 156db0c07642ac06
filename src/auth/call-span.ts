/** The span of an RPC, as far as this folder knows of it: what the RPC leads to is done within. */
import type { Interceptor } from "@connectrpc/connect";

type Next = Parameters<Interceptor>[0];

/** A span that follows an RPC: see `rpc/traces.ts`. */
export interface CallSpan {
  /** Does what the RPC leads to: spans that are made meanwhile are this one's children. */
  run<T>(work: () => T): T;
}

/** Has the handler run, and its stream go on, within the RPC's span. */
export function inSpan(span: CallSpan | undefined, next: Next): Next {
  if (span === undefined) return next;
  return async (req) => {
    const res = await span.run(() => next(req));
    return res.stream ? { ...res, message: iterateInSpan(span, res.message) } : res;
  };
}

/** A generator goes on in the context of whoever asks it for more. */
function iterateInSpan<T>(span: CallSpan, iterable: AsyncIterable<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = span.run(() => iterable[Symbol.asyncIterator]());
      return {
        next: () => span.run(() => iterator.next()),
        ...(iterator.return && {
          return: () => span.run(() => iterator.return?.()) as Promise<IteratorResult<T>>,
        }),
      };
    },
  };
}
