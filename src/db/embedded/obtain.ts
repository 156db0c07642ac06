import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { EmbeddedPostgresError, USE_A_SERVER } from "./error.ts";
import type { EmbeddedHome } from "./home.ts";
import { type OwnerLock, tryOwnerLock } from "./owner.ts";
import {
  discardForeignPidFile,
  findPostmaster,
  type LaunchedPostmaster,
  launchPostmaster,
  type Postmaster,
  servesData,
} from "./postmaster.ts";
import { removeSocketDirectory } from "./socket.ts";

const READY_TIMEOUT_MS = 120_000;
const RIVAL_TIMEOUT_MS = 10_000;
const OWNER_GRACE_MS = 2_000;
const POLL_MS = 10;

/** A server that answers and that this process owns. */
export interface ObtainedServer {
  postmaster: Required<Postmaster>;
  lock: OwnerLock;
  adopted: boolean;
}

/**
 * Adopts the server that runs on this data directory, or launches one. Nothing of our own guards the start:
 * Postgres's pid file lets one server in, the advisory lock one owner, and both end with their process, so a
 * kill leaves no lock behind.
 */
export async function obtainServer(
  home: EmbeddedHome,
  binaries: string,
  onProgress: (message: string) => void,
): Promise<ObtainedServer> {
  const began = Date.now();
  let announced = false;
  for (;;) {
    if (Date.now() - began > READY_TIMEOUT_MS) throw notReady(home);
    const running = await findPostmaster(home.data);
    if (running?.socketDirectory) {
      if (!announced) onProgress(`found Postgres already running (process ${running.pid})`);
      announced = true;
      const postmaster = { pid: running.pid, socketDirectory: running.socketDirectory };
      const lock = await takeOwnership(postmaster, home, began);
      if (lock) return { postmaster, lock, adopted: true };
    } else if (!running) {
      onProgress("starting Postgres");
      const launched = await launchPostmaster(home, binaries);
      const lock = await takeOwnership(launched, home, began);
      if (lock) return { postmaster: launched, lock, adopted: false };
      await afterFailedLaunch(launched, home, began);
    }
    await delay(POLL_MS);
  }
}

/** `undefined` when the server ended before it gave an answer. */
async function takeOwnership(
  { pid, socketDirectory }: Required<Postmaster>,
  home: EmbeddedHome,
  began: number,
): Promise<OwnerLock | undefined> {
  let heldSince: number | undefined;
  let missingSince: number | undefined;
  for (;;) {
    const attempt = await tryOwnerLock(socketDirectory);
    if (attempt.outcome === "owned") return attempt.lock;
    const now = Date.now();
    if (attempt.outcome === "held") {
      // A killed owner's session ends a moment after its process.
      heldSince ??= now;
      if (now - heldSince > OWNER_GRACE_MS) throw inUse(home);
    } else {
      if (!(await servesData(pid, home.data))) return undefined;
      if (now - began > READY_TIMEOUT_MS) throw notReady(home);
      missingSince = attempt.code === "ENOENT" ? (missingSince ?? now) : undefined;
      if (missingSince !== undefined && now - missingSince > RIVAL_TIMEOUT_MS) {
        throw new EmbeddedPostgresError(
          `Postgres (process ${pid}) uses ${home.data}, but its socket in ${socketDirectory} is gone: ` +
            `stop it (kill -INT ${pid}) and start again`,
        );
      }
    }
    await delay(POLL_MS);
  }
}

/** Returns when another try may succeed: a rival was faster, or a killed server's last processes are ending. */
async function afterFailedLaunch(
  launched: LaunchedPostmaster,
  home: EmbeddedHome,
  began: number,
): Promise<void> {
  const said = await launched.said();
  await removeSocketDirectory(launched.socketDirectory);
  const rival = said.includes('"postmaster.pid" already exists');
  const remains = said.includes("pre-existing shared memory block");
  if ((rival || remains) && Date.now() - began < RIVAL_TIMEOUT_MS) {
    if (rival) await discardForeignPidFile(home.data);
    return;
  }
  throw new EmbeddedPostgresError(
    `Postgres did not start in ${home.data}; its log ${home.logFile} ends:\n${said}`,
  );
}

function inUse(home: EmbeddedHome): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `another Latchkey uses the data directory ${dirname(home.logFile)}: stop it, ` +
      `or choose another LATCHKEY_DATA_DIR, or ${USE_A_SERVER} for both`,
  );
}

function notReady(home: EmbeddedHome): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `Postgres in ${home.data} did not become ready within ${READY_TIMEOUT_MS / 1000} s. It may still be recovering: ` +
      `start again to wait on; its log is ${home.logFile}`,
  );
}
