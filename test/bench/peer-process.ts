/** Starts peers, each in a process of its own on the server's processor. */
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { type Child, startChild } from "./child.ts";
import type { Memory } from "./child-main.ts";
import { callOnce, echoService, type Protocol } from "./echo.ts";
import type { Places } from "./machine.ts";
import type { Peer } from "./peers.ts";

/** What everything is started with. */
export interface Surroundings {
  readonly places: Places;
  /** The compiled echo service. */
  readonly image: Uint8Array;
  /** Of the bench; each peer gets one in it. */
  readonly directory: string;
  /** Where profiles of the peers' processors go; undefined: none are taken. */
  readonly profileDir: string | undefined;
  /** Makes a new, empty database and returns its URL. */
  createDatabase(): Promise<string>;
}

export interface PeerProcess extends Pick<Child, "pid" | "close"> {
  readonly peer: Peer;
  readonly protocol: Protocol;
  readonly url: string;
  readonly token: string;
  /** Undefined: it has none. */
  readonly databaseUrl: string | undefined;
  memory(): Promise<Memory>;
  /** Calls it once with a true client; rejects where the answer is wrong. */
  verify(): Promise<void>;
}

/** As long as that of Latchkey, for those that ask for none: all read the same request. */
const anyToken = `lk_${"0".repeat(38)}`;

/** Starts a peer. Rejects with what it said where it does not start. */
export async function startPeer(
  peer: Peer,
  protocol: Protocol,
  surroundings: Surroundings,
): Promise<PeerProcess> {
  const { places, image, directory, profileDir, createDatabase } = surroundings;
  const databaseUrl = peer.database ? await createDatabase() : undefined;
  const name = `${peer.id}-${protocol}`;
  const child = startChild({
    ...{ name, script: "peers/run.ts", places },
    nodeArgs:
      profileDir === undefined
        ? []
        : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`, `--cpu-prof-name=${name}.cpuprofile`],
  });
  try {
    const { port, token } = await child.ask<{ port: number; token?: string }>("start", {
      ...{ module: peer.module, options: peer.options ?? {}, protocol, databaseUrl },
      directory: mkdtempSync(join(directory, "peer-")),
      image: Buffer.from(image).toString("base64"),
    });
    const call = { protocol, url: `http://127.0.0.1:${port}`, token: token ?? anyToken };
    return {
      ...{ peer, pid: child.pid, databaseUrl, ...call },
      memory: () => child.ask("memory"),
      verify: () => callOnce(echoService(image), call),
      close: child.close,
    };
  } catch (error) {
    await child.close().catch(() => {});
    throw error;
  }
}
