/** Clients with a good key that call without pause over one connection: how the others fare while something goes wrong. */
import { type ClientHttp2Session, connect } from "node:http2";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../harness/until.ts";

export interface Callers {
  pause(): void;
  /** Goes on, with a new report. */
  resume(): void;
  /** Resolves once so many more calls were answered. */
  callMore(count: number): Promise<void>;
  report(): { calls: number; errors: string[]; p50Ms: number; p99Ms: number; longestMs: number };
  close(): void;
}

const workers = 4;
const restMs = 5;

/** Calls GetUser over Connect with a token, four at a time. */
export async function startCallers(url: string, token: string, userId: bigint): Promise<Callers> {
  let session: ClientHttp2Session | undefined;
  let paused = false;
  let closed = false;
  let durationsMs: number[] = [];
  let errors: string[] = [];

  function connected(): ClientHttp2Session {
    if (session === undefined || session.closed || session.destroyed) {
      session = connect(url).on("error", () => {});
    }
    return session;
  }

  async function work(): Promise<void> {
    while (!closed) {
      if (!paused) {
        const startedMs = performance.now();
        await call(connected(), token, userId).catch((error: Error) => errors.push(error.message));
        durationsMs.push(performance.now() - startedMs);
      }
      await sleep(restMs);
    }
  }
  for (let i = 0; i < workers; i++) void work();

  return {
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      durationsMs = [];
      errors = [];
    },
    async callMore(count) {
      const before = durationsMs.length;
      await until(
        () => durationsMs.length,
        (n) => n >= before + count,
      );
    },
    report() {
      const sorted = durationsMs.toSorted((a, b) => a - b);
      const at = (share: number) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
      return { calls: sorted.length, errors, p50Ms: at(0.5), p99Ms: at(0.99), longestMs: at(1) };
    },
    close() {
      closed = true;
      session?.close();
    },
  };
}

/** One call. Rejects unless it is answered with the user. */
export async function call(session: ClientHttp2Session, token: string, userId: bigint): Promise<void> {
  const stream = session.request({
    ":method": "POST",
    ":path": "/api.users.UserService/GetUser",
    "content-type": "application/json",
    "x-api-key": token,
  });
  let status: unknown;
  stream.on("response", (headers) => {
    status = headers[":status"];
  });
  stream.end(`{"userId":"${userId}"}`);
  const body = (await buffer(stream)).toString();
  if (status !== 200) throw new Error(`${status}: ${body}`);
}
