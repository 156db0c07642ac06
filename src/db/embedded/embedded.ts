import { resolve } from "node:path";
import { chooseServer, installServer, pruneServers } from "./binaries.ts";
import { CLUSTER_NAME, clusterMajor, createCluster } from "./cluster.ts";
import { EmbeddedPostgresError, errorCode, USE_A_SERVER } from "./error.ts";
import { type EmbeddedHome, prepareHome } from "./home.ts";
import { obtainServer } from "./obtain.ts";
import type { OwnerLock } from "./owner.ts";
import { type Postmaster, stopPostmaster } from "./postmaster.ts";
import { SOCKET_PORT } from "./socket.ts";

export { EmbeddedPostgresError } from "./error.ts";

/** Options of {@link startEmbeddedPostgres}. */
export interface EmbeddedPostgresOptions {
  /**
   * Where the server, its data and its log live, e.g. ".latchkey". Made if missing, for this user alone; as
   * root, the group of the server's user may pass through it (mode 0710).
   */
  dataDir: string;
  /** One line of progress each, for people. */
  onProgress?: (message: string) => void;
  /** Default `process.platform`. */
  platform?: string;
  /** Default `process.arch`. */
  arch?: string;
}

/** A running embedded Postgres, owned by this process until it stops it or dies. */
export interface EmbeddedPostgres {
  /** The socket's directory: `postgres({ host, port, database, username })`. No password. */
  readonly host: string;
  /** Part of the socket's file name; no TCP port is open. */
  readonly port: number;
  readonly database: string;
  /** A superuser role. */
  readonly username: string;
  /** True when a running server was taken over: one that a killed process left. */
  readonly adopted: boolean;
  readonly logFile: string;
  /**
   * Shuts the server down, adopted or not, and waits for its end; open connections are cut. Calls after the
   * first wait for the same end. Rejects with {@link EmbeddedPostgresError} if the server outlives 30 s.
   */
  stop(): Promise<void>;
}

/**
 * Starts real Postgres in `dataDir`, reachable only through a private unix socket, and makes this process its
 * one owner. The first start copies the server out of node_modules and creates the cluster (about 2 s); later
 * ones take about 0.2 s. A server that a killed process left running is adopted. If this process ends without
 * `stop()`, the server stays for the next start.
 *
 * Rejects with {@link EmbeddedPostgresError}: no binary for this system, the data directory is not usable, is
 * another live process's, or was made by a Postgres that is not here, or the server does not start. Any number
 * of processes may call this at once on one directory: one of them gets it.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  try {
    return await start(options);
  } catch (error) {
    if (!UNUSABLE.has(errorCode(error)) || !(error instanceof Error)) throw error;
    throw new EmbeddedPostgresError(
      `cannot use the data directory ${resolve(options.dataDir)} (${error.message}): ` +
        `make it usable for this user, choose another LATCHKEY_DATA_DIR, or ${USE_A_SERVER}`,
      { cause: error },
    );
  }
}

const UNUSABLE = new Set(
  "EACCES EPERM EROFS ENOSPC EDQUOT ENOTDIR EISDIR ENOENT ELOOP ENAMETOOLONG EEXIST".split(" "),
);

async function start(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { dataDir, onProgress = () => undefined, platform = process.platform, arch = process.arch } = options;
  const home = await prepareHome(dataDir);
  const dataMajor = await clusterMajor(home);
  const choice = { home: home.directory, platform, arch, ...(dataMajor === undefined ? {} : { dataMajor }) };
  const server = await chooseServer(choice);
  const binaries = await installServer(home.directory, server);
  if (dataMajor === undefined) {
    onProgress(`creating a Postgres ${server.version} database in ${home.data}`);
    await createCluster(home, binaries);
  }
  const { postmaster, lock, adopted } = await obtainServer(home, binaries, onProgress);
  if (!adopted) await pruneServers(home.directory, server, choice);

  let stopped: Promise<void> | undefined;
  return {
    host: postmaster.socketDirectory,
    port: SOCKET_PORT,
    database: CLUSTER_NAME,
    username: CLUSTER_NAME,
    adopted,
    logFile: home.logFile,
    stop() {
      stopped ??= stop(postmaster, lock, home);
      return stopped;
    },
  };
}

// The lock is held until the server is gone: released before, another process could adopt a dying server.
async function stop(postmaster: Postmaster, lock: OwnerLock, home: EmbeddedHome): Promise<void> {
  lock.expectLoss();
  try {
    await stopPostmaster(postmaster, home.data);
  } finally {
    await lock.close();
  }
}
