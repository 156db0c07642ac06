/** A server process that is attacked, what it costs meanwhile, and how the others fare. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { createTestDatabase } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  secretKey,
  spawnServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { type Callers, startCallers } from "./callers.ts";

const onLinux = existsSync("/proc/self/status");
/** What a stop waits for at most; one that takes as long has lost count of what runs. */
const shutdownTimeoutMs = 40_000;

export interface Target {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly databaseUrl: string;
  readonly asStaff: Clients;
  readonly callers: Callers;
  /** Of a user that may read itself. */
  readonly token: string;
  readonly userId: bigint;
  /** Memory and descriptors now; undefined where the system does not tell. */
  sample(): Sample | undefined;
  /** Waits until no more connections are open than those of the harness itself. */
  settle(): Promise<void>;
  /**
   * Runs an attack while four clients with a good key go on calling. Prints what it
   * cost; fails where one of them was not served, memory grew beyond the bound or a
   * connection was left behind.
   */
  attack(t: TestContext, name: string, boundMiB: number, run: () => Promise<unknown>): Promise<void>;
  /** Stops it. Fails where it did not go by itself: something is still counted as running. */
  stop(t: TestContext): Promise<void>;
}

export interface Sample {
  readonly rssMiB: number;
  readonly descriptors: number;
  /** TCP connections to its port that it has not closed. */
  readonly connections: number;
}

/** Of the callers, and of the staff's client, which rests for a while. */
const ownConnections = 2;

export async function startTarget(env: Record<string, string> = {}): Promise<Target> {
  const databaseUrl = await createTestDatabase();
  const server = await spawnServer({
    DATABASE_URL: databaseUrl,
    LATCHKEY_SECRET_KEY: noteSecret(secretKey),
    LATCHKEY_SHUTDOWN_TIMEOUT_MS: String(shutdownTimeoutMs),
    LATCHKEY_LOG_LEVEL: "warn",
    ...env,
  });
  const { url } = server;
  const port = Number(new URL(url).port);
  const pid = server.child.pid ?? 0;
  const asStaff = clientsOf(connectTransport(url, secretKey));
  const { token, userId } = await createUserAndKey(asStaff, "good");
  const sample = () => (onLinux ? sampleOf(pid, port) : undefined);
  // One connection for all of its life; whatever else is open is the attacker's.
  const callers = await startCallers(url, token, userId);
  // What a server opens and grows by on its first calls is not what an attack costs.
  await callers.callMore(400);
  callers.pause();
  for (let i = 0; i < 20; i++) await asStaff.users.getUser({ userId });

  const settle = async () => {
    await until(
      () => sample()?.connections ?? 0,
      (n) => n <= ownConnections,
    );
  };

  return {
    url,
    port,
    pid,
    databaseUrl,
    asStaff,
    callers,
    token,
    userId,
    sample,
    settle,

    async attack(t, name, boundMiB, run) {
      const before = sample();
      callers.resume();
      let highest = before;
      const watching = setInterval(() => {
        const now = sample();
        if (now === undefined || highest === undefined) return;
        highest = {
          rssMiB: Math.max(now.rssMiB, highest.rssMiB),
          descriptors: Math.max(now.descriptors, highest.descriptors),
          connections: Math.max(now.connections, highest.connections),
        };
      }, 50);
      try {
        await run();
        await settle();
        // Others are served now too.
        await callers.callMore(8);
      } finally {
        clearInterval(watching);
        callers.pause();
      }
      const after = sample();
      const { calls, errors, p99Ms, longestMs } = callers.report();
      t.diagnostic(
        `${name}: RSS ${before?.rssMiB} → ${highest?.rssMiB} → ${after?.rssMiB} MiB; descriptors ${before?.descriptors} → ` +
          `${highest?.descriptors} → ${after?.descriptors}; connections ${before?.connections} → ${highest?.connections} → ` +
          `${after?.connections}; others: ${calls} calls, ${errors.length} failed, p99 ${p99Ms} ms, longest ${longestMs} ms`,
      );
      assert.deepEqual(errors, [], "others were served");
      if (before === undefined || highest === undefined) return;
      const grown = highest.rssMiB - before.rssMiB;
      assert.ok(grown < boundMiB, `memory grew by ${grown} MiB, which is bounded by ${boundMiB}`);
    },

    async stop(t) {
      callers.close();
      const startedMs = performance.now();
      server.child.kill("SIGTERM");
      const { code, stderr } = await server.exited;
      const tookMs = performance.now() - startedMs;
      t.diagnostic(`stopped in ${tookMs.toFixed(0)} ms`);
      assert.equal(code, 0);
      assert.ok(tookMs < shutdownTimeoutMs, `nothing runs any more, but the stop took ${tookMs} ms`);
      assert.doesNotMatch(stderr, /nothing caught|a handler failed/);
    },
  };
}

function sampleOf(pid: number, port: number): Sample {
  const kB = readFileSync(`/proc/${pid}/status`, "utf8").match(/^VmRSS:\s+(\d+) kB/m)?.[1];
  const own = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1);
  // ESTABLISHED and CLOSE_WAIT: the other states need nothing of the process any more, or nothing yet.
  const connections = rows.filter((row) => {
    const [, local, , state] = row.trim().split(/\s+/);
    return local?.endsWith(own) && (state === "01" || state === "08");
  });
  return {
    rssMiB: Math.round(Number(kB) / 1024),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    connections: connections.length,
  };
}

/** How many sockets this process and a server may have open between them, a share left for all else. */
export function socketsAllowed(most: number): number {
  if (!onLinux) return Math.min(most, 200);
  const limit = readFileSync("/proc/self/limits", "utf8").match(/^Max open files\s+\d+\s+(\d+)/m)?.[1];
  return Math.max(100, Math.min(most, Number(limit ?? 1024) - 500));
}
