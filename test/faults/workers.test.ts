/** Several instances on one port: what the end of one, or of all, does to clients and counts. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { createTestDatabase, databaseUrl, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import {
  clientsOf,
  connectTransport,
  createUserAndKey,
  newDirectory,
  type ServerProcess,
  secretKey,
  spawnServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { isAlive, workersOf } from "../harness/workers.ts";
import { type CallResult, startLoad } from "./load.ts";

interface World extends ServerProcess {
  readonly databaseUrl: string;
  readonly staff: ReturnType<typeof clientsOf>;
  /** What is counted of a key, and its rows. */
  counted(apiKeyId: string): Promise<{ count: number; rows: number }>;
}

async function start(t: TestContext, env: Record<string, string> = {}): Promise<World> {
  const url = await createTestDatabase();
  const server = await spawnServer({
    DATABASE_URL: url,
    LATCHKEY_SECRET_KEY: noteSecret(secretKey),
    LATCHKEY_DATA_DIR: newDirectory(),
    LATCHKEY_WORKERS: "2",
    ...env,
  });
  const sql = openSql(url);
  t.after(async () => {
    server.child.kill("SIGTERM");
    await server.exited;
    await sql.end();
  });
  return {
    ...server,
    databaseUrl: url,
    staff: clientsOf(connectTransport(server.url, secretKey)),
    async counted(apiKeyId) {
      const [row] = await sql<{ count: number; rows: number }[]>`
        SELECT request_count::int AS count,
          (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId}) AS rows
        FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
      return row ?? { count: 0, rows: 0 };
    },
  };
}

/** Loads of one connection each, as gRPC clients have them, with a key each. */
async function startLoads(t: TestContext, { url, staff }: World, n: number) {
  const keys = await Promise.all(Array.from({ length: n }, (_, i) => createUserAndKey(staff, `client-${i}`)));
  return keys.map(({ apiKeyId, token, userId }) => {
    const messages = new Set<string>();
    const onResult = ({ error }: CallResult) => error && messages.add(error.message);
    const load = startLoad({ urls: [url], tokens: [token], clients: 4, userId, onResult });
    // A test that fails ends all the same.
    t.after(() => void load.stop());
    const sum = (numbers: Map<string, number>) => [...numbers.values()].reduce((a, b) => a + b, 0);
    return {
      apiKeyId,
      stop: load.stop,
      codes: () => [...load.failed.keys()],
      messages,
      answered: () => sum(load.answered),
      failed: () => sum(load.failed),
    };
  });
}

type Loads = Awaited<ReturnType<typeof startLoads>>;

const goOn = async (loads: Loads, calls: number) => {
  const before = loads.map((load) => load.answered());
  await until(
    () => loads.map((load, i) => load.answered() - (before[i] ?? 0)),
    (grown) => grown.every((n) => n >= calls),
  );
};

/** Every answer is counted once, and nothing else but what was cut off unanswered. */
async function assertCounted(loads: Loads, { counted }: Pick<World, "counted">): Promise<void> {
  for (const load of loads) {
    const { count, rows } = await until(
      () => counted(load.apiKeyId),
      (found) => found.count >= load.answered(),
    );
    assert.ok(count <= load.answered() + load.failed(), `${count} counted, ${load.answered()} answered`);
    assert.equal(count, rows);
  }
}

test("kill -9 of a worker under load: it is replaced, the others' connections do not notice, and strict counts every answer", async (t) => {
  const world = await start(t, { LATCHKEY_USAGE_DURABILITY: "strict" });
  const loads = await startLoads(t, world, 6);
  await goOn(loads, 10);
  const [victim = 0, survivor = 0] = workersOf(world);
  process.kill(victim, "SIGKILL");
  const replaced = await until(
    () => workersOf(world),
    (pids) => pids.length === 2 && !pids.includes(victim),
  );
  assert.ok(replaced.includes(survivor));
  await goOn(loads, 10);
  await Promise.all(loads.map((load) => load.stop()));
  // Each worker had as many connections as the other.
  assert.deepEqual(loads.filter((load) => load.failed() > 0).length, 3);
  // Each client of a broken connection lost what was under way, and its reconnection went well.
  for (const load of loads) assert.ok(load.failed() <= 4, `${load.failed()} failed: ${load.codes()}`);
  await assertCounted(loads, world);
});

test("SIGTERM under load: every call that was answered is counted, none is cut off, and the exit status is 0", async (t) => {
  const world = await start(t);
  const loads = await startLoads(t, world, 6);
  await goOn(loads, 10);
  world.child.kill("SIGTERM");
  const { code, stderr } = await world.exited;
  assert.equal(code, 0, stderr);
  await Promise.all(loads.map((load) => load.stop()));
  for (const load of loads) {
    // Never begun: nobody listened any more, or the call crossed the GOAWAY (RFC 9113, section 8.7).
    const cutOff = [...load.messages].filter((said) => !/ECONNREFUSED|NGHTTP2_REFUSED_STREAM/.test(said));
    assert.deepEqual(cutOff, []);
    const { count, rows } = await world.counted(load.apiKeyId);
    assert.deepEqual([count, rows], [load.answered(), load.answered()]);
  }
});

test("kill -9 of the primary: no worker goes on serving, and what they had answered is counted", async (t) => {
  const world = await start(t, { LATCHKEY_SHUTDOWN_TIMEOUT_MS: "2000" });
  const loads = await startLoads(t, world, 6);
  await goOn(loads, 10);
  const workers = workersOf(world);
  assert.equal(workers.length, 2);
  world.child.kill("SIGKILL");
  try {
    await until(
      () => workers.filter(isAlive),
      (alive) => alive.length === 0,
    );
  } finally {
    // Should they stay, they would keep the run from ending.
    for (const pid of workers.filter(isAlive)) process.kill(pid, "SIGKILL");
  }
  await Promise.all(loads.map((load) => load.stop()));
  await assert.rejects(fetch(world.url));
  await assertCounted(loads, world);
});

test("a worker that is asked to stop finishes what it has, loses nothing, and is replaced", async (t) => {
  const world = await start(t);
  const loads = await startLoads(t, world, 4);
  await goOn(loads, 10);
  const [asked = 0] = workersOf(world);
  process.kill(asked, "SIGTERM");
  await until(
    () => workersOf(world),
    (pids) => pids.length === 2 && !pids.includes(asked),
  );
  await goOn(loads, 10);
  await Promise.all(loads.map((load) => load.stop()));
  await assertCounted(loads, world);
});

/** A connection of its own. */
function connection(t: TestContext, url: string, token: string) {
  const sessionManager = new Http2SessionManager(url);
  t.after(() => sessionManager.abort());
  const { getUser } = createClient(
    UserService,
    createGrpcTransport({ baseUrl: url, sessionManager, defaultTimeoutMs: 60_000 }),
  );
  return () => getUser({ userId: 1n }, { headers: { "x-api-key": token } });
}

test("a connection on its way to a worker that is killed is given to another", async (t) => {
  const world = await start(t);
  const [stopped = 0] = workersOf(world);
  // It takes no connection that it is given, and says nothing of it.
  process.kill(stopped, "SIGSTOP");
  const calls = Array.from({ length: 4 }, () => connection(t, world.url, secretKey)());
  // Two went to the other one.
  await until(
    async () => {
      const ended = await Promise.all(calls.map((call) => Promise.race([call, undefined])));
      return ended.filter((answer) => answer !== undefined).length;
    },
    (answered) => answered === 2,
  );
  process.kill(stopped, "SIGKILL");
  for (const answer of await Promise.all(calls)) assert.equal(answer.username, "admin");
});

test("while no worker is up the port stays, and connections wait for one", async (t) => {
  const world = await start(t);
  for (const pid of workersOf(world)) process.kill(pid, "SIGKILL");
  const answers = await Promise.all(
    Array.from({ length: 4 }, () => connection(t, world.url, secretKey)().catch(ConnectError.from)),
  );
  for (const answer of answers) assert.ok(!(answer instanceof ConnectError), String(answer));
});

/** What the primary has said so far of workers that ended: when, and how long it waits before it starts another. */
function endsOf(world: World): () => { atMs: number; waitMs: number }[] {
  let stderr = "";
  world.child.stderr?.on("data", (text: string) => {
    stderr += text;
  });
  return () =>
    [...stderr.matchAll(/"time":(\d+),.*another starts in (\d+) ms/g)].map(([, time, wait]) => ({
      atMs: Number(time),
      waitMs: Number(wait),
    }));
}

test("a worker that dies at each start is started less and less often, until it lives", async (t) => {
  const world = await start(t);
  const ends = endsOf(world);
  const [, survivor = 0] = workersOf(world);
  await until(
    () => {
      for (const pid of workersOf(world)) if (pid !== survivor) process.kill(pid, "SIGKILL");
      return ends();
    },
    (found) => found.length >= 4,
  );
  const found = ends().slice(0, 4);
  assert.deepEqual(
    found.map(({ waitMs }) => waitMs),
    [0, 250, 500, 1000],
  );
  for (const [i, { atMs, waitMs }] of found.slice(0, -1).entries()) {
    // Timers may be a millisecond early.
    assert.ok((found[i + 1]?.atMs ?? 0) - atMs >= waitMs - 1, `it did not wait ${waitMs} ms`);
  }
  await connection(t, world.url, secretKey)();
  await until(
    () => workersOf(world),
    (pids) => pids.length === 2 && pids.includes(survivor),
  );
});

test("a worker that finds no database is tried again until there is one, while the other is up", async (t) => {
  const world = await start(t);
  const ends = endsOf(world);
  const name = new URL(world.databaseUrl).pathname.slice(1);
  const admin = openSql(databaseUrl(world.databaseUrl, "postgres"));
  const allow = (allowed: boolean) => admin.unsafe(`ALTER DATABASE ${name} ALLOW_CONNECTIONS ${allowed}`);
  const [victim = 0, survivor = 0] = workersOf(world);
  await allow(false);
  try {
    process.kill(victim, "SIGKILL");
    await until(ends, (found) => found.length >= 2);
  } finally {
    await allow(true);
    await admin.end();
  }
  await until(
    () => workersOf(world),
    (pids) => pids.length === 2 && pids.includes(survivor),
  );
  await connection(t, world.url, secretKey)();
  await connection(t, world.url, secretKey)();
});

test("a revoked key is refused on every connection, whichever instance has it, within the bound", async (t) => {
  const world = await start(t);
  const { apiKeyId, token } = await createUserAndKey(world.staff, "revoked");
  const calls = Array.from({ length: 4 }, () => connection(t, world.url, token));
  await Promise.all(calls.map((call) => call()));
  const { requestLogs } = await until(
    () => world.staff.logs.listRequestLogs({ filter: { apiKeyId } }),
    (found) => found.requestLogs.length === 4,
  );
  assert.equal(new Set(requestLogs.map(({ instanceId }) => instanceId)).size, 2);

  await world.staff.keys.revokeApiKey({ id: apiKeyId });
  const revokedAtMs = performance.now();
  const boundMs = 2000;
  await Promise.all(
    calls.map(async (call) => {
      for (let letIn = true; letIn; ) {
        const startedAtMs = performance.now();
        letIn = await call().then(
          () => true,
          (error: unknown) => {
            assert.equal(ConnectError.from(error).code, Code.Unauthenticated);
            return false;
          },
        );
        assert.ok(!letIn || startedAtMs - revokedAtMs <= boundMs, "a revoked key was let in too late");
      }
    }),
  );
});
