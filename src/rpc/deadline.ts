/** The server's own deadline, beside the one that the client set. */
import { Code, ConnectError } from "@connectrpc/connect";

export interface Deadline {
  /** A signal that aborts with the given one, and with `deadline_exceeded` when the time is up. */
  link(signal: AbortSignal): AbortSignal;
  /** Stops the clock. */
  clear(): void;
}

/** Starts a deadline of so many milliseconds; 0: none. */
export function createDeadline(timeoutMs: number): Deadline {
  if (timeoutMs === 0) return { link: (signal) => signal, clear: () => {} };
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(
      new ConnectError(
        `the call took longer than this server allows: ${timeoutMs} ms`,
        Code.DeadlineExceeded,
      ),
    );
  }, timeoutMs);
  return {
    link(signal) {
      const follow = () => controller.abort(signal.reason);
      if (signal.aborted) follow();
      else signal.addEventListener("abort", follow, { once: true });
      return controller.signal;
    },
    clear: () => clearTimeout(timer),
  };
}
