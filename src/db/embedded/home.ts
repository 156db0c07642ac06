import { createHash } from "node:crypto";
import { chmod, chown, lstat, mkdir, mkdtemp, readFile, realpath, rm, stat, symlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { EmbeddedPostgresError, unless } from "./error.ts";
import { removeAbandoned } from "./publish.ts";

/** The account that the server runs as. */
export interface ServerUser {
  uid: number;
  gid: number;
}

/** Where an embedded Postgres lives. */
export interface EmbeddedHome {
  /** `<dataDir>/postgres`, resolved: holds the cluster (`data`) and the server copies. */
  directory: string;
  /** `<directory>/data`, which may not exist yet. */
  data: string;
  logFile: string;
  /** Set when this process is root: Postgres refuses to run as root. */
  user?: ServerUser;
}

const OUTSIDE_BASE = "/var/lib/latchkey";

/**
 * Makes the data directory and finds the server's home in it. As root, the home must be within reach of an
 * unprivileged user; where a parent directory bars the way (`/root`), the home is made under
 * `/var/lib/latchkey` and `<dataDir>/postgres` is a symlink to it. Safe to call concurrently.
 */
export async function prepareHome(dataDir: string): Promise<EmbeddedHome> {
  const absolute = resolve(dataDir);
  await mkdir(dirname(absolute), { recursive: true });
  await unless(["EEXIST"], () => mkdir(absolute, { mode: 0o700 }), undefined);
  const real = await realpath(absolute);
  const entry = join(real, "postgres");
  const user = process.getuid?.() === 0 ? await serverUser(entry) : undefined;

  if (user) await makeRootHome(real, entry, user);
  else await unless(["EEXIST"], () => mkdir(entry, { mode: 0o700 }), undefined);

  const directory = await unless(["ENOENT"], () => realpath(entry), undefined);
  if (directory === undefined) {
    throw new EmbeddedPostgresError(
      `${entry} is a symlink to a directory that is gone, and the data with it: bring it back, ` +
        `or delete the symlink to begin with an empty database`,
    );
  }
  await removeAbandoned(directory);
  const home = { directory, data: join(directory, "data"), logFile: join(real, "postgres.log") };
  return user ? { ...home, user } : home;
}

/** The first directory on the way to `path` that `user` may not enter; `undefined` when the way is free. */
export async function firstUnreachable(path: string, user: ServerUser): Promise<string | undefined> {
  const way = [path];
  while (dirname(way[0]!) !== way[0]) way.unshift(dirname(way[0]!));
  for (const directory of way) {
    const { mode, uid, gid } = await stat(directory);
    const mayEnter = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & mayEnter) === 0) return directory;
  }
  return undefined;
}

async function makeRootHome(dataDir: string, entry: string, user: ServerUser): Promise<void> {
  const existing = await unless(["ENOENT"], () => lstat(entry), undefined);
  if (!existing) {
    if (await unreachableFor(dirname(dataDir), user)) return makeOutsideHome(dataDir, entry, user);
    await letEnter(dataDir, user);
    if (await unreachableFor(dataDir, user)) return makeOutsideHome(dataDir, entry, user);
    await unless(["EEXIST"], () => mkdir(entry, { mode: 0o700 }), undefined);
  }
  if (!existing?.isSymbolicLink()) {
    await letEnter(dataDir, user);
    await letEnter(entry, user);
  }
  const blocked = await unless(
    ["ENOENT"],
    async () => firstUnreachable(await realpath(entry), user),
    undefined,
  );
  if (blocked !== undefined) {
    throw new EmbeddedPostgresError(
      `the server's user (uid ${user.uid}) cannot enter ${blocked}, on the way to ${entry}: ` +
        `chmod o+x ${blocked}, or choose another LATCHKEY_DATA_DIR`,
    );
  }
}

async function unreachableFor(path: string, user: ServerUser): Promise<boolean> {
  return (await firstUnreachable(path, user)) !== undefined;
}

// Execute for the server's group alone: it can pass through, not list, and nobody else gains anything.
// Only where root's directory was closed to all others, so that no grant of the operator's is changed.
async function letEnter(directory: string, user: ServerUser): Promise<void> {
  const { uid, mode } = await stat(directory);
  if (uid !== 0 || (mode & 0o077) !== 0) return;
  await chown(directory, 0, user.gid);
  await chmod(directory, 0o710);
}

async function makeOutsideHome(dataDir: string, entry: string, user: ServerUser): Promise<void> {
  await mkdir(OUTSIDE_BASE, { recursive: true });
  await chmod(OUTSIDE_BASE, 0o711);
  const hash = createHash("sha256").update(dataDir).digest("hex").slice(0, 12);
  // A fresh name each time: who deletes the data directory to begin anew must not find the old data again.
  const home = await mkdtemp(join(OUTSIDE_BASE, `${hash}-`));
  await letEnter(home, user);
  try {
    await symlink(home, entry);
  } catch (error) {
    await rm(home, { recursive: true });
    await unless(["EEXIST"], () => Promise.reject(error), undefined);
  }
}

// A cluster keeps its owner: `sudo` on a directory that a user made must not run as somebody else.
async function serverUser(entry: string): Promise<ServerUser> {
  const data = await unless(["ENOENT"], () => stat(join(entry, "data")), undefined);
  if (data && data.uid !== 0) return { uid: data.uid, gid: data.gid };

  const accounts = new Map<string, ServerUser>();
  for (const line of (await readFile("/etc/passwd", "utf8")).split("\n")) {
    const [name = "", , uid, gid] = line.split(":");
    if (Number(uid) > 0 && Number(gid) > 0) accounts.set(name, { uid: Number(uid), gid: Number(gid) });
  }
  const user = accounts.get("postgres") ?? accounts.get("_postgres") ?? accounts.get("nobody");
  if (user) return user;
  throw new EmbeddedPostgresError(
    "Postgres does not run as root, and /etc/passwd has neither a user postgres nor nobody: " +
      "add one, or start Latchkey as an ordinary user",
  );
}
