/** Starts peers, each in a process of its own on the server's processor, and ends them. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { callOnce, echoService, type Protocol } from "./echo.ts";
import { onServer, type Places } from "./machine.ts";
import type { Peer } from "./peers.ts";

/** What all peers are started with. */
export interface Surroundings {
  readonly places: Places;
  /** The compiled echo service. */
  readonly image: Uint8Array;
  /** Of the bench; each peer gets one in it. */
  readonly directory: string;
  /** Makes a new, empty database and returns its URL. */
  createDatabase(): Promise<string>;
}

export interface PeerProcess {
  readonly peer: Peer;
  readonly protocol: Protocol;
  readonly pid: number;
  readonly url: string;
  readonly token: string;
  /** Undefined: it has none. */
  readonly databaseUrl: string | undefined;
  /** Bytes, after a collection: of the heap with what it holds outside, and of the process. */
  memory(): Promise<{ heap: number; resident: number }>;
  /** Calls it once with a true client; rejects where the answer is wrong. */
  verify(): Promise<void>;
  /** Stops it and waits for its end; what it counted is then in its database. */
  close(): Promise<void>;
}

/** As long as that of Latchkey, for those that ask for none: all read the same request. */
const anyToken = `lk_${"0".repeat(38)}`;
const startTimeoutMs = 60_000;

/** Starts a peer. Rejects with what it said where it does not start. */
export async function startPeer(
  peer: Peer,
  protocol: Protocol,
  surroundings: Surroundings,
): Promise<PeerProcess> {
  const databaseUrl = peer.database ? await surroundings.createDatabase() : undefined;
  const service: DescService = echoService(surroundings.image);
  const run = new URL("peers/run.ts", import.meta.url).pathname;
  const [command, args] = onServer(surroundings.places, [process.execPath, "--expose-gc", run]);
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(command, args, {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    env: { PATH, HOME, NODE_ENV: "production" },
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const ask = <T>(message: object) => request<T>(child, exited, `${peer.id} (${protocol})`, message);
  try {
    const { port, token } = await ask<{ port: number; token?: string }>({
      start: {
        ...{ module: peer.module, options: peer.options ?? {}, protocol, databaseUrl },
        directory: mkdtempSync(join(surroundings.directory, "peer-")),
        image: Buffer.from(surroundings.image).toString("base64"),
      },
    });
    const call = { protocol, url: `http://127.0.0.1:${port}`, token: token ?? anyToken };
    return {
      ...{ peer, pid: child.pid ?? 0, databaseUrl, ...call },
      memory: () => ask({ memory: true }),
      verify: () => callOnce(service, call),
      async close() {
        try {
          await ask({ close: true });
        } catch (error) {
          child.kill("SIGKILL");
          throw error;
        } finally {
          await exited;
        }
      },
    };
  } catch (error) {
    child.kill("SIGKILL");
    await exited;
    throw error;
  }
}

/** Sends a message and waits for the answer. */
function request<T>(
  child: ChildProcess,
  exited: Promise<number | null>,
  name: string,
  message: object,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${name} does not answer`)), startTimeoutMs);
    child.once("message", (answer: T & { error?: string }) => {
      clearTimeout(timer);
      if (answer.error === undefined) resolve(answer);
      else reject(new Error(`${name}: ${answer.error}`));
    });
    exited.then((code) => {
      clearTimeout(timer);
      reject(new Error(`${name} ended with ${code}`));
    });
    child.send(message);
  });
}
