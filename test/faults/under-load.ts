/** A server process under load whose database is about to suffer, and the balance of its calls afterwards. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type postgres from "postgres";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../src/gen/health/v1/health_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  createUserAndKey,
  newDirectory,
  type ServerProcess,
  secretKey,
  spawnServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { type Load, startLoad } from "./load.ts";

/** A call past the guard asks for user 0, which is refused before the database is asked. */
export const letIn = Code[Code.InvalidArgument];

export interface ServerUnderLoad {
  readonly process: ServerProcess;
  readonly staff: Clients;
  /** A key that is in use all the time. */
  readonly known: { readonly apiKeyId: string; readonly token: string };
  /** Keys that no server has seen yet. */
  readonly unseen: string[];
  /** How calls with the known key ended so far: by the name of the code. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** When the newest call with the known key that was let in began; by performance.now(). */
  readonly lastLetInMs: number;
  /** Resolves once a call that begins from now on is let in. */
  letInAgain(): Promise<void>;
  /** Fails where a call with the known key ended otherwise. */
  assertOnly(...codes: string[]): void;
  /** What becomes of one call with a token: {@link letIn} or the name of another code. */
  probe(token: string): Promise<string>;
  isServing(): Promise<boolean>;
  log(): string;
  stopLoad(): Promise<void>;
  /** Megabytes of the process now, and at most so far. */
  memoryMb(): { now: number; most: number };
  /**
   * Ends the load and waits until all is written. Fails unless each call that was let in
   * is counted once and has its row, or the log says that the row was dropped. Then the
   * server is stopped.
   */
  settle(sql: postgres.Sql): Promise<Balance>;
}

export interface Balance {
  readonly letIn: number;
  readonly count: number;
  readonly rows: number;
  readonly dropped: number;
  /** Megabytes of the process at the end. */
  readonly memoryMb: number;
}

export async function startUnderLoad(
  t: TestContext,
  databaseUrl: string,
  env: Record<string, string> = {},
  { clients = 8, pauseMs = 4 } = {},
): Promise<ServerUnderLoad> {
  const server = await spawnServer({
    DATABASE_URL: databaseUrl,
    LATCHKEY_SECRET_KEY: noteSecret(secretKey),
    LATCHKEY_DATA_DIR: newDirectory(),
    ...env,
  });
  let stderr = "";
  server.child.stderr?.on("data", (text: string) => (stderr += text));
  const staff = clientsOf(connectTransport(server.url, secretKey));
  const known = await createUserAndKey(staff, "known");
  const unseen: string[] = [];
  for (let n = 0; n < 5; n++) unseen.push((await createUserAndKey(staff, `unseen-${n}`)).token);

  const outcomes = new Map<string, number>();
  let lastLetInMs = 0;
  const load: Load = startLoad({
    urls: [server.url],
    tokens: [known.token],
    clients,
    pauseMs,
    userId: 0n,
    onResult({ error, startedAt }) {
      const code = error === undefined ? "OK" : (Code[error.code] ?? "");
      outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
      if (code === letIn) lastLetInMs = Math.max(lastLetInMs, startedAt);
    },
  });
  let most = 0;
  const sample = () => {
    const now = residentMb(server.child.pid ?? 0);
    most = Math.max(most, now);
    return now;
  };
  const sampling = setInterval(sample, 200);
  const health = createClient(Health, createGrpcTransport({ baseUrl: server.url, defaultTimeoutMs: 5000 }));
  const users = createClient(
    UserService,
    createGrpcTransport({ baseUrl: server.url, defaultTimeoutMs: 20_000 }),
  );
  t.after(async () => {
    clearInterval(sampling);
    server.child.kill("SIGTERM");
    const stopped = server.exited;
    const timer = setTimeout(() => server.child.kill("SIGKILL"), 15_000);
    await Promise.all([load.stop(), stopped]);
    clearTimeout(timer);
  });
  await until(() => outcomes.get(letIn) ?? 0, Boolean);

  return {
    process: server,
    staff,
    known,
    unseen,
    outcomes,
    get lastLetInMs() {
      return lastLetInMs;
    },
    async letInAgain() {
      const fromMs = performance.now();
      await until(
        () => lastLetInMs,
        (at) => at > fromMs,
      );
    },
    assertOnly(...codes) {
      for (const code of outcomes.keys()) assert.ok(codes.includes(code), `${code} ${outcomes.get(code)}`);
    },
    async probe(token) {
      const code = await users.getUser({ userId: 0n }, { headers: { "x-api-key": token } }).then(
        () => "OK",
        (error: unknown) => Code[ConnectError.from(error).code] ?? "",
      );
      if (token === known.token) outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
      return code;
    },
    isServing: () => health.check({}).then(({ status }) => status === Status.SERVING),
    log: () => stderr,
    stopLoad: () => load.stop(),
    memoryMb: () => ({ now: sample(), most }),
    async settle(sql) {
      await load.stop();
      const expected = outcomes.get(letIn) ?? 0;
      await until(
        async () =>
          (
            await sql`SELECT request_count::int AS n FROM api_key_usage
          WHERE api_key_id = ${known.apiKeyId}`
          )[0]?.n as number,
        (count) => count >= expected,
      );
      // What an outage has left is packed.
      await until(
        async () => (await sql`SELECT FROM request_log_packs LIMIT 1`).length,
        (packs) => packs === 0,
      );
      const dropped = [...stderr.matchAll(/(\d+) request log rows were dropped/g)]
        .map(([, n]) => Number(n))
        .reduce((a, b) => a + b, 0);
      const [found] = await sql`SELECT
        (SELECT request_count::int FROM api_key_usage WHERE api_key_id = ${known.apiKeyId}) AS count,
        (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${known.apiKeyId}) AS rows,
        (SELECT count(*)::int FROM request_logs) AS all_rows,
        (SELECT sum(requests)::int FROM method_rollups WHERE period_s = 60) AS all_calls`;
      assert.ok(found);
      assert.equal(found.count, expected, "each call that was let in is counted once");
      assert.equal(
        found.all_calls,
        found.all_rows + dropped,
        "each call has its row, or was said to be dropped",
      );
      if (dropped === 0) assert.equal(found.rows, found.count);
      const memoryMb = sample();
      server.child.kill("SIGTERM");
      assert.equal((await server.exited).code, 0, "it stops as ever");
      return { letIn: expected, count: found.count, rows: found.rows, dropped, memoryMb };
    },
  };
}

/** In words, for a test's diagnostics. */
export function inWords(server: ServerUnderLoad, balance: Balance): string {
  const { most } = server.memoryMb();
  const outcomes = [...server.outcomes].map(([code, n]) => `${code} ${n}`).join(", ");
  return `calls by outcome: ${outcomes} (${letIn} is let in); counted ${balance.count}, rows ${balance.rows}, dropped ${balance.dropped}; RSS ${balance.memoryMb} MB at the end, at most ${most} MB`;
}

function residentMb(pid: number): number {
  try {
    const [, kb = "0"] = readFileSync(`/proc/${pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/) ?? [];
    return Math.round(Number(kb) / 1024);
  } catch {
    // It has ended, or this is no Linux.
    return 0;
  }
}
