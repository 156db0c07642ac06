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

/** The most that a timer of Node's takes, some 24.8 days; one that is set to more fires at once. */
const maxTimerMs = 2 ** 31 - 1;
const grpcUnitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000 };

/**
 * Takes out a client's deadline that is too far for a timer, lest Connect count it
 * as passed: no RPC lives to see it. What is no deadline stays, to be refused.
 */
export function dropFarDeadline(header: Headers): void {
  const [, digits, unit = ""] = header.get("grpc-timeout")?.match(/^(\d{1,8})([HMS])$/) ?? [];
  if (Number(digits) * (grpcUnitMs[unit] ?? 0) > maxTimerMs) header.delete("grpc-timeout");
  const timeoutMs = header.get("connect-timeout-ms");
  if (timeoutMs?.length === 10 && Number(timeoutMs) > maxTimerMs) header.delete("connect-timeout-ms");
}
