/** grpc.health.v1: what this server says of its own state, to load balancers and orchestrators. */
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  type HealthCheckRequest,
  type Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../gen/health/v1/health_pb.js";

/** The serving state of a server and its services. */
export interface Health {
  /** Sets the overall state. While it is false, every service counts as not serving. Ignored after close. */
  setServing(serving: boolean): void;
  /**
   * Sets the state of one service within the overall one, and makes the service
   * known if it was not. "" is the overall state. Ignored after close.
   */
  setServiceServing(service: string, serving: boolean): void;
  /** The state of a service; without one or for "", the overall state. False for an unknown service. */
  isServing(service?: string): boolean;
  /** Whether this service has a state; "" always has. */
  knows(service: string): boolean;
  /** The known services, sorted, without "". */
  readonly services: readonly string[];
  /** Calls back after each change, close included, until the returned function is called. */
  onChange(listener: () => void): () => void;
  /** Listeners now. Each open Watch stream is one. */
  readonly listeners: number;
  /**
   * Sets every state to not serving for good and ends all Watch streams, each
   * after it was told so: without this, a graceful stop would wait for streams
   * that never end.
   */
  close(): void;
  readonly closed: boolean;
}

/** Creates the state of a server that is serving, with these services (full names, as "api.users.UserService"). */
export function createHealth(serviceNames: readonly string[]): Health {
  const services = new Map(serviceNames.map((name) => [name, true]));
  const listeners = new Set<() => void>();
  let overall = true;
  let closed = false;

  function change(apply: () => void): void {
    if (closed) return;
    apply();
    for (const listener of listeners) listener();
  }

  const setServing = (serving: boolean) =>
    change(() => {
      overall = serving;
    });
  return {
    setServing,
    setServiceServing(service, serving) {
      if (service === "") setServing(serving);
      else change(() => services.set(service, serving));
    },
    isServing: (service = "") => overall && (service === "" || services.get(service) === true),
    knows: (service) => service === "" || services.has(service),
    get services() {
      return [...services.keys()].sort();
    },
    onChange(listener) {
      // A function of its own, so that one listener can be given twice.
      const entry = () => listener();
      listeners.add(entry);
      return () => listeners.delete(entry);
    },
    get listeners() {
      return listeners.size;
    },
    close() {
      change(() => {
        overall = false;
        closed = true;
      });
    },
    get closed() {
      return closed;
    },
  };
}

export interface HealthServiceOptions {
  /**
   * Watch streams open at once; one more fails with resource_exhausted. Default
   * 1000: anonymous callers may open them, and each holds memory.
   */
  maxWatchers?: number;
}

/** A watcher of an unknown service holds its name for as long as it stays: no name is near this long. */
const maxWatchedNameLength = 1024;

/**
 * Creates the service over a state. Safe for concurrent calls.
 *
 * Check fails with not_found for an unknown service. Watch sends the state at
 * once and then each other state, SERVICE_UNKNOWN included; a slow reader is
 * sent the latest one only. It fails with resource_exhausted beyond
 * `maxWatchers`. Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
export function healthService(
  health: Health,
  options: HealthServiceOptions = {},
): ServiceImpl<typeof HealthService> {
  const { maxWatchers = 1000 } = options;
  let watchers = 0;

  /** Yields nothing but the state at the moment of being asked, so there is no queue that could grow. */
  async function* watch({ service }: HealthCheckRequest, { signal }: HandlerContext) {
    if (service.length > maxWatchedNameLength) {
      throw new ConnectError(
        `service name is longer than ${maxWatchedNameLength} characters`,
        Code.InvalidArgument,
      );
    }
    if (watchers >= maxWatchers) {
      throw new ConnectError(`too many Watch streams (at most ${maxWatchers})`, Code.ResourceExhausted);
    }
    watchers++;
    let wake = () => {};
    const unsubscribe = health.onChange(() => wake());
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      watchers--;
      unsubscribe();
      signal.removeEventListener("abort", release);
      wake();
    };
    // Not left to `finally`: while a stalled reader keeps the generator at its
    // yield, nobody may ever resume it.
    signal.addEventListener("abort", release);
    try {
      let sent: Status | undefined;
      for (;;) {
        // ConnectError.from makes an abort without a reason a cancellation, not an internal error.
        if (signal.aborted) throw ConnectError.from(signal.reason, Code.Canceled);
        const status = statusOf(health, service);
        if (status !== sent) {
          sent = status;
          yield { status };
        } else if (health.closed) {
          return;
        } else {
          // No change is lost: nothing runs between the look at the state and this line.
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      release();
    }
  }

  return {
    check({ service }) {
      if (!health.knows(service)) {
        // Clipped, because the message travels in a header.
        throw new ConnectError(`unknown service ${JSON.stringify(service.slice(0, 200))}`, Code.NotFound);
      }
      return { status: statusOf(health, service) };
    },
    watch,
    list() {
      const names = ["", ...health.services];
      return {
        statuses: Object.fromEntries(names.map((name) => [name, { status: statusOf(health, name) }])),
      };
    },
  };
}

function statusOf(health: Health, service: string): Status {
  if (!health.knows(service)) return Status.SERVICE_UNKNOWN;
  return health.isServing(service) ? Status.SERVING : Status.NOT_SERVING;
}
