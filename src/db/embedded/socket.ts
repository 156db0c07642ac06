import { chown, mkdtemp, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { EmbeddedPostgresError, unless } from "./error.ts";
import { type EmbeddedHome, firstUnreachable } from "./home.ts";

/** Only names the socket file: no TCP port is opened. */
export const SOCKET_PORT = 5432;

const SOCKET_PREFIX = "latchkey-";
// sun_path holds 104 bytes on macOS, 108 on Linux, the closing NUL included.
const MAX_SOCKET_PATH_BYTES = 103;

/**
 * Makes a short directory for the socket, outside the data directory, whose path may be too long for one.
 * mkdtemp gives a name that no other user of a shared /tmp could have taken beforehand, and mode 0700; the
 * next process finds it through the server's pid file.
 */
export async function makeSocketDirectory({ user }: EmbeddedHome): Promise<string> {
  for (const base of new Set([tmpdir(), "/tmp"])) {
    const socket = join(base, `${SOCKET_PREFIX}XXXXXX`, `.s.PGSQL.${SOCKET_PORT}`);
    if (Buffer.byteLength(socket) > MAX_SOCKET_PATH_BYTES) continue;
    if (user && (await unless(["ENOENT"], () => firstUnreachable(base, user), base)) !== undefined) continue;
    const made = await unless(
      ["ENOENT", "EACCES", "EROFS"],
      () => mkdtemp(join(base, SOCKET_PREFIX)),
      undefined,
    );
    if (made === undefined) continue;
    if (user) await chown(made, user.uid, user.gid);
    return made;
  }
  throw new EmbeddedPostgresError(
    `no place for the server's socket: neither ${tmpdir()} nor /tmp is writable, reachable and short enough; set TMPDIR`,
  );
}

/** Removes a socket directory that {@link makeSocketDirectory} made, and nothing else. */
export async function removeSocketDirectory(directory: string | undefined): Promise<void> {
  if (directory === undefined || !basename(directory).startsWith(SOCKET_PREFIX)) return;
  const socket = join(directory, `.s.PGSQL.${SOCKET_PORT}`);
  for (const file of [socket, `${socket}.lock`]) await rm(file, { force: true }).catch(() => undefined);
  await rmdir(directory).catch(() => undefined);
}
