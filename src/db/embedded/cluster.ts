import { spawn } from "node:child_process";
import { chown, readFile } from "node:fs/promises";
import { join } from "node:path";
import { execFailure } from "./binaries.ts";
import { EmbeddedPostgresError, USE_A_SERVER, unless } from "./error.ts";
import type { EmbeddedHome } from "./home.ts";
import { publishDirectory } from "./publish.ts";

/** The superuser role and the database that a new cluster is made with. */
export const CLUSTER_NAME = "latchkey";

/** Major version of the Postgres that made the cluster; `undefined` when there is no cluster yet. */
export async function clusterMajor(home: EmbeddedHome): Promise<number | undefined> {
  const text = await unless(["ENOENT"], () => readFile(join(home.data, "PG_VERSION"), "utf8"), undefined);
  return text === undefined ? undefined : Number.parseInt(text, 10);
}

/** Makes the cluster with its role and database, all of it or nothing. Safe to call concurrently. */
export async function createCluster(home: EmbeddedHome, server: string): Promise<void> {
  const bin = join(server, "bin");
  await publishDirectory(home.directory, "data", async (directory) => {
    if (home.user) await chown(directory, home.user.uid, home.user.gid);
    await run(home, join(bin, "initdb"), [
      `--pgdata=${directory}`,
      `--username=${CLUSTER_NAME}`,
      "--encoding=UTF8",
      "--locale=C",
      "--auth-local=trust",
      "--auth-host=reject",
      "--no-instructions",
    ]);
    // Before the directory is published, so that no start ever meets a cluster without its database.
    const single = ["--single", "-D", directory, "-c", "log_checkpoints=off", "postgres"];
    await run(home, join(bin, "postgres"), single, `CREATE DATABASE ${CLUSTER_NAME};\n`);
  });
}

/** The environment of every Postgres process: none of ours, whose secrets it would outlive. */
export function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
}

async function run(home: EmbeddedHome, binary: string, args: string[], input = ""): Promise<void> {
  const child = spawn(binary, args, { cwd: home.directory, env: serverEnvironment(), ...home.user });
  let output = "";
  const collect = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  // A child that dies early says why itself; EPIPE would only hide it.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);

  const { promise, resolve, reject } = Promise.withResolvers<string>();
  child.on("error", reject);
  child.on("close", (code, signal) => resolve(signal ?? String(code)));
  const status = await promise.catch(async (error: unknown) => {
    throw await execFailure(binary, error);
  });
  if (status === "0") return;
  if (output.includes("could not look up effective user ID")) {
    throw new EmbeddedPostgresError(
      `the user id ${process.getuid?.()} has no entry in /etc/passwd, without which Postgres makes no data directory: ` +
        `add one, run as another user, or ${USE_A_SERVER}`,
    );
  }
  throw new EmbeddedPostgresError(`${binary} failed (${status}):\n${output.trimEnd()}`);
}
