/** The embedded Postgres as it lies there: nothing is made, started or taken over. */
import { access, constants, realpath } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { DatabaseAddress } from "../address.ts";
import { chooseServer } from "./binaries.ts";
import { CLUSTER_NAME, clusterMajor } from "./cluster.ts";
import { unless } from "./error.ts";
import { findPostmaster } from "./postmaster.ts";
import { SOCKET_PORT } from "./socket.ts";

export interface EmbeddedState {
  /** Major version of the Postgres that made the data; undefined: there is none yet. */
  readonly dataMajor: number | undefined;
  /** Version of the Postgres that would be started, e.g. "18.4.0-beta.17". */
  readonly version: string;
  /** Undefined: it does not run. */
  readonly running: { readonly pid: number; readonly address: DatabaseAddress } | undefined;
}

/**
 * Looks at a data directory, which need not exist. Rejects with an EmbeddedPostgresError where a
 * server could not start, and with the system's error where the folder cannot be used.
 */
export async function lookAtEmbedded(dataDir: string): Promise<EmbeddedState> {
  const entry = join(resolve(dataDir), "postgres");
  const directory = (await unless(["ENOENT"], () => realpath(entry), undefined)) ?? entry;
  const home = { directory, data: join(directory, "data"), logFile: join(resolve(dataDir), "postgres.log") };
  await checkWritable(resolve(dataDir));
  const dataMajor = await clusterMajor(home);
  const { platform, arch } = process;
  const { version } = await chooseServer({
    home: directory,
    platform,
    arch,
    ...(dataMajor === undefined ? {} : { dataMajor }),
  });
  const postmaster = dataMajor === undefined ? undefined : await findPostmaster(home.data);
  const host = postmaster?.socketDirectory;
  const address = host && { host, port: SOCKET_PORT, database: CLUSTER_NAME, username: CLUSTER_NAME };
  return {
    dataMajor,
    version,
    running: postmaster && address ? { pid: postmaster.pid, address } : undefined,
  };
}

/** The folder, or the nearest one above it that there is. */
async function checkWritable(path: string): Promise<void> {
  try {
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    if (!isMissing || dirname(path) === path) throw error;
    await checkWritable(dirname(path));
  }
}
