/** Waiting with a bound. */

/** What was waited for did not come in time. */
export class TimedOutError extends Error {
  override name = "TimedOutError";
}

/**
 * Settles as the promise does, or rejects with a {@link TimedOutError} after so
 * many milliseconds. What was begun goes on: its late failure is nobody's.
 */
export async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const giveUp = () => reject(new TimedOutError(`not done within ${timeoutMs} ms`));
  // After a busy while, timers run before what has long arrived is read: that first.
  const timer = setTimeout(() => setImmediate(giveUp), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
