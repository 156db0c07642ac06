import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/db/embedded/embedded.ts";
import { finallyDo } from "../harness/finally-do.ts";

const asRoot = process.getuid?.() === 0;
const nobody = asRoot ? { uid: 65_534, gid: 65_534 } : {};

/** A directory that any user can enter; whatever server still runs in its `data` is ended with it. */
async function workspace(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "embedded-test-"));
  await chmod(directory, 0o755);
  finallyDo(t, async () => {
    const pidFile = await readFile(join(directory, "data/postgres/data/postmaster.pid"), "utf8").catch(
      () => "",
    );
    const [pid, , , , socketDirectory] = pidFile.split("\n");
    if (pid) await kill(Number(pid), "SIGINT");
    if (socketDirectory) await rm(socketDirectory, { recursive: true, force: true });
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  });
  return directory;
}

async function postmasterPid(dataDir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, "postgres/data/postmaster.pid"), "utf8"), 10);
}

/** Signals a process and waits until it is gone. */
async function kill(pid: number, signal: NodeJS.Signals): Promise<void> {
  try {
    process.kill(pid, signal);
    while (!(await isZombie(pid))) {
      process.kill(pid, 0);
      await delay(5);
    }
  } catch (error) {
    assert.ok(error instanceof Error && "code" in error && error.code === "ESRCH", String(error));
  }
}

// An orphan is only reaped where process 1 does so.
async function isZombie(pid: number): Promise<boolean> {
  return / Z /.test(await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""));
}

interface Owner {
  child: ChildProcess;
  /** What its start came to: a server, or the error it was refused with. */
  result: Promise<Partial<EmbeddedPostgres> & { error?: string }>;
  progress: () => Promise<unknown>;
}

/** Another process that starts the server and then lives until it is killed, or stops when its input ends. */
function owner(
  t: TestContext,
  dataDir: string,
  options: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv; detached?: boolean } = {},
): Owner {
  const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(import.meta.resolve("../../src/db/embedded/embedded.ts"))};
    try {
      const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, onProgress: (text) => console.error(text) });
      console.log(JSON.stringify(server));
      process.stdin.resume().on("end", async () => { await server.stop(); process.exit(); });
    } catch (error) {
      console.log(JSON.stringify({ error: error.name + ": " + error.message }));
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { cwd: "/", ...options });
  finallyDo(t, () => kill(child.pid!, "SIGKILL"));
  const line = once(createInterface(child.stdout), "line");
  return {
    child,
    result: line.then(([text]) => JSON.parse(text)),
    progress: () => once(child.stderr, "data"),
  };
}

async function running(own: Owner): Promise<EmbeddedPostgres> {
  const result = await own.result;
  assert.equal(result.error, undefined);
  return result as EmbeddedPostgres;
}

async function run(server: EmbeddedPostgres, text: string): Promise<postgres.RowList<postgres.Row[]>> {
  // Where the server restarts meanwhile, postgres.js' question for types rejects and nobody can catch it.
  const sql = postgres({ ...server, max: 1, onnotice: () => undefined, fetch_types: false });
  return sql.unsafe(text).finally(() => sql.end());
}

async function count(server: EmbeddedPostgres): Promise<number> {
  return (await run(server, "SELECT count(*)::int AS rows FROM kept"))[0]!.rows;
}

const FILL = "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n";

test("an ordinary user can start it, and root then runs it as that user", async (t) => {
  const base = await workspace(t);
  if (asRoot) await chown(base, 65_534, 65_534);
  const dataDir = join(base, "data");
  const first = owner(t, dataDir, nobody);
  await run(await running(first), FILL);
  assert.equal((await stat(dataDir)).mode & 0o777, 0o700);
  first.child.stdin!.end();
  await once(first.child, "exit");

  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  assert.equal(await count(server), 1000);
  await server.stop();

  const again = owner(t, dataDir, nobody);
  assert.equal(await count(await running(again)), 1000);
});

test("after kill -9 of the owner the next start adopts the server with all committed data, and can stop it", async (t) => {
  const base = await workspace(t);
  const dataDir = join(base, "data");
  await mkdir(join(base, "t"), { mode: 0o755 });
  const killed = owner(t, dataDir, { detached: true, env: { ...process.env, TMPDIR: join(base, "t") } });
  const before = await running(killed);
  await run(before, FILL);
  const pid = await postmasterPid(dataDir);
  // The whole process group, as a terminal does it.
  await kill(-killed.child.pid!, "SIGKILL");

  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  assert.equal(server.adopted, true);
  assert.equal(server.host, before.host);
  assert.equal(await postmasterPid(dataDir), pid);
  assert.equal(await count(server), 1000);
  await server.stop();
  await assert.rejects(run(server, "SELECT 1"), { code: "ENOENT" });
  await assert.rejects(postmasterPid(dataDir), { code: "ENOENT" });
});

test("after kill -9 of the owner and the server the next start recovers all committed data", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const killed = owner(t, dataDir);
  const before = await running(killed);
  await run(before, FILL);
  process.kill(await postmasterPid(dataDir), "SIGKILL");
  await kill(killed.child.pid!, "SIGKILL");

  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  assert.equal(server.adopted, false);
  assert.equal(await count(server), 1000);
  await assert.rejects(
    stat(before.host),
    { code: "ENOENT" },
    "the dead server's socket directory is removed",
  );
});

test("a stale pid file that names a stranger's process does not keep it from starting", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const first = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => first.stop());
  const pidFile = join(dataDir, "postgres/data/postmaster.pid");
  const lines = (await readFile(pidFile, "utf8")).split("\n");
  await first.stop();
  // Postgres takes a live process of its own user for its rival, so the stranger must be one.
  const { uid, gid } = await stat(join(dataDir, "postgres/data"));
  const stranger = spawn("sh", ["-c", "read line"], { cwd: "/", ...(asRoot ? { uid, gid } : {}) });
  finallyDo(t, () => kill(stranger.pid!, "SIGKILL"));
  await once(stranger, "spawn");
  await writeFile(pidFile, [stranger.pid, ...lines.slice(1)].join("\n"));
  if (asRoot) await chown(pidFile, uid, gid);

  const second = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => second.stop());
  assert.equal(second.adopted, false);
  assert.equal(stranger.exitCode, null);
});

test("a second live process is refused, told why, and does not disturb the first", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  const second = await owner(t, dataDir).result;
  assert.match(second.error ?? "", /^EmbeddedPostgresError: another Latchkey uses the data directory /);
  assert.ok(second.error?.includes(dataDir));
  assert.match(second.error ?? "", /stop it, or choose another LATCHKEY_DATA_DIR, or set DATABASE_URL/);
  await run(server, FILL);
  assert.equal(await count(server), 1000);
});

test("of four processes that start at once in an empty folder exactly one wins, the others are told", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const results = await Promise.all(Array.from({ length: 4 }, () => owner(t, dataDir).result));
  const errors = results.flatMap(({ error }) => error ?? []);
  assert.equal(errors.length, 3, JSON.stringify(results));
  for (const error of errors) assert.match(error, /another Latchkey uses the data directory/);
  const winner = results.find(({ error }) => error === undefined) as EmbeddedPostgres;
  await run(winner, FILL);
  assert.deepEqual(
    (await readdir(join(dataDir, "postgres"))).filter((name) => name.startsWith(".new-")),
    [],
  );
});

test("the owner keeps its claim when the database restarts itself", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  const owners = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted";
  const [before] = await run(server, owners);
  // A backend that crashes makes Postgres cut every session and recover.
  process.kill(before!.pid, "SIGKILL");
  for (let after = before; after === undefined || after.pid === before!.pid; ) {
    [after] = await run(server, owners).catch(() => []);
  }
  assert.match((await owner(t, dataDir).result).error ?? "", /another Latchkey uses the data directory/);
});

test("a first start that is killed halfway leaves nothing that hinders the next one", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const killed = owner(t, dataDir);
  await killed.progress();
  await kill(killed.child.pid!, "SIGKILL");
  await assert.rejects(stat(join(dataDir, "postgres/data")), { code: "ENOENT" });

  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  await run(server, FILL);
  assert.equal(await count(server), 1000);
});
