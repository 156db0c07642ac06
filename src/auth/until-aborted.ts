/** Ends a wait when a signal aborts, whether or not what is waited for heeds the signal. */
import { Code, ConnectError } from "@connectrpc/connect";

/** Settles as the promise does, or rejects with the signal's reason, whichever is first. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/**
 * Yields what the iterable yields until the signal aborts, then throws its
 * reason. The iterable is told to return in every case, but not waited for: it
 * may never come back.
 */
export async function* iterateUntilAborted<T>(
  iterable: AsyncIterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const iterator = iterable[Symbol.asyncIterator]();
  let done = false;
  try {
    for (;;) {
      const result = await untilAborted(iterator.next(), signal);
      if (result.done) {
        done = true;
        return;
      }
      yield result.value;
    }
  } finally {
    if (!done) iterator.return?.()?.catch(() => {});
  }
}

/** Why a signal aborted, as an error for the caller: its deadline, a stop, or `canceled` when the client went. */
export function abortError(signal: AbortSignal): ConnectError {
  const reason: unknown = signal.reason;
  // An HTTP/1.1 client that goes is told as Aborted, which in RPC terms means something else.
  if (reason instanceof ConnectError && reason.code !== Code.Aborted) return reason;
  return new ConnectError("the client went away", Code.Canceled);
}
