import { execFile, spawn } from "node:child_process";
import { constants } from "node:fs";
import { type FileHandle, lstat, open, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { execFailure } from "./binaries.ts";
import { serverEnvironment } from "./cluster.ts";
import { EmbeddedPostgresError, errorCode, unless } from "./error.ts";
import type { EmbeddedHome } from "./home.ts";
import { makeSocketDirectory, removeSocketDirectory, SOCKET_PORT } from "./socket.ts";

/** A server process of one data directory, our child or one that a killed process left. */
export interface Postmaster {
  pid: number;
  /** Absent while the server has not opened its socket yet. */
  socketDirectory?: string;
}

/** A server that this process spawned. */
export interface LaunchedPostmaster extends Postmaster {
  socketDirectory: string;
  /** The last lines that were logged since the launch. */
  said(): Promise<string>;
}

const MAX_LOG_BYTES = 10 * 1024 * 1024;
const POLL_MS = 10;
const FAST_SHUTDOWN_MS = 20_000;
const IMMEDIATE_SHUTDOWN_MS = 10_000;

const SETTINGS = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  port: String(SOCKET_PORT),
  max_connections: "200",
  timezone: "UTC",
  log_timezone: "UTC",
  log_min_messages: "warning",
  log_checkpoints: "off",
  // Hashes travel as parameters and appear in the DETAIL of a unique violation: neither may reach the log.
  log_statement: "none",
  log_min_duration_statement: "-1",
  log_min_error_statement: "panic",
  log_parameter_max_length: "0",
  log_parameter_max_length_on_error: "0",
  log_error_verbosity: "terse",
};

/** The live server of this data directory, whoever started it. */
export async function findPostmaster(data: string): Promise<Postmaster | undefined> {
  const file = await readPidFile(data);
  if (!file || !(await servesData(file.pid, data))) return undefined;
  if (file.socketDirectory !== undefined && !(await isPrivateTo(file.socketDirectory, data)))
    return undefined;
  return file.socketDirectory ? { pid: file.pid, socketDirectory: file.socketDirectory } : { pid: file.pid };
}

/**
 * Whether `pid` is alive and the server of this data directory, not a later process with the same id. Told by
 * the command line, which is empty for a zombie; /proc/<pid>/cwd would need CAP_SYS_PTRACE of a container's root.
 */
export async function servesData(pid: number, data: string): Promise<boolean> {
  if (process.platform === "linux") {
    // Anyone may call a process "postgres"; only the data's owner may run its server.
    const owner = await unless(["ENOENT", "ESRCH"], async () => (await stat(`/proc/${pid}`)).uid, undefined);
    const dataOwner = await unless(["ENOENT"], async () => (await stat(data)).uid, owner);
    if (owner === undefined || owner !== dataOwner) return false;
    const file = () => readFile(`/proc/${pid}/cmdline`, "utf8");
    const [program = "", ...args] = (await unless(["ENOENT", "ESRCH"], file, "")).split("\0");
    return basename(program) === "postgres" && args[args.indexOf("-D") + 1] === data;
  }
  const ps = ["-ww", "-o", "command=", "-p", String(pid)];
  const command = await promisify(execFile)("ps", ps).catch(() => undefined);
  // ps escapes what its locale cannot print; then it must do that this is an embedded server at all.
  const expected = /^[ -~]*$/.test(data) ? `/bin/postgres -D ${data} ` : "/bin/postgres -D ";
  return command?.stdout.includes(expected) ?? false;
}

/** Whether a socket directory is the data's owner's alone: what listens in another may be anyone's. One that is gone harms nobody. */
async function isPrivateTo(directory: string, data: string): Promise<boolean> {
  const found = await unless(["ENOENT"], () => lstat(directory), undefined);
  if (found === undefined) return true;
  return found.isDirectory() && found.uid === (await stat(data)).uid && (found.mode & 0o077) === 0;
}

/** Spawns a server and returns at once; it has not answered yet. */
export async function launchPostmaster(home: EmbeddedHome, server: string): Promise<LaunchedPostmaster> {
  await removeSocketDirectory((await readPidFile(home.data))?.socketDirectory);
  const socketDirectory = await makeSocketDirectory(home);
  const log = await openLog(home);
  const from = (await log.stat()).size;
  const binary = join(server, "bin", "postgres");
  const settings = { ...SETTINGS, unix_socket_directories: `"${socketDirectory}"` };
  const args = [
    "-D",
    home.data,
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ];
  try {
    const child = spawn(binary, args, {
      cwd: home.data,
      env: serverEnvironment(),
      // Its own session: Ctrl-C in the terminal must not stop it before we have flushed.
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      ...home.user,
    });
    await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
    child.unref();
    return { pid: child.pid!, socketDirectory, said: () => tail(home.logFile, from) };
  } catch (error) {
    await removeSocketDirectory(socketDirectory);
    throw await execFailure(binary, error);
  } finally {
    await log.close();
  }
}

/**
 * Fast shutdown, which waits for no client but leaves nothing to recover; after 20 s an immediate one.
 * Rejects with {@link EmbeddedPostgresError} when the server outlives that too.
 */
export async function stopPostmaster(postmaster: Postmaster, data: string): Promise<void> {
  const ended =
    (await signalAndWait(postmaster.pid, data, "SIGINT", FAST_SHUTDOWN_MS)) ||
    (await signalAndWait(postmaster.pid, data, "SIGQUIT", IMMEDIATE_SHUTDOWN_MS));
  if (!ended)
    throw new EmbeddedPostgresError(`Postgres (process ${postmaster.pid}) of ${data} does not stop`);
  await removeSocketDirectory(postmaster.socketDirectory);
}

/**
 * Removes a pid file that keeps Postgres from starting though its process is none of ours: after a container
 * restarts, the old id may be a stranger's or a zombie's. Running servers stay safe without the file, through
 * the shared memory block that Postgres keys by the data directory's inode.
 */
export async function discardForeignPidFile(data: string): Promise<void> {
  const before = await readPidFile(data);
  if (!before || (await servesData(before.pid, data))) return;
  const after = await readPidFile(data);
  if (after?.text === before.text) await rm(join(data, "postmaster.pid"), { force: true });
}

async function signalAndWait(
  pid: number,
  data: string,
  signal: NodeJS.Signals,
  limitMs: number,
): Promise<boolean> {
  if (!(await servesData(pid, data))) return true;
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
  const deadline = Date.now() + limitMs;
  while (Date.now() < deadline) {
    if (!(await servesData(pid, data))) return true;
    await delay(POLL_MS);
  }
  return false;
}

// https://www.postgresql.org/docs/current/storage-file-layout.html: pid, data directory, start time, port,
// socket directory, each on a line of its own; written step by step while the server starts.
async function readPidFile(data: string) {
  const text = await unless(["ENOENT"], () => readFile(join(data, "postmaster.pid"), "utf8"), "");
  const [pid = "", , , , socketDirectory = ""] = text.split("\n");
  if (!/^\d+$/.test(pid)) return undefined;
  return { text, pid: Number(pid), socketDirectory: socketDirectory || undefined };
}

async function openLog({ logFile, user }: EmbeddedHome): Promise<FileHandle> {
  const size = await unless(["ENOENT"], async () => (await stat(logFile)).size, 0);
  if (size > MAX_LOG_BYTES) await rename(logFile, `${logFile}.1`);
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
  const log = await open(logFile, flags, 0o600);
  // A cluster that a user made may be started by root once and by that user again.
  if (user && (await log.stat()).size === 0) await log.chown(user.uid, user.gid);
  return log;
}

async function tail(logFile: string, from: number): Promise<string> {
  const text = (await readFile(logFile)).subarray(from).toString();
  return text.trimEnd().split("\n").slice(-10).join("\n");
}
