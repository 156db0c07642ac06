/** What a peer is: a small server of the echo service, in a process of its own. */
import type { AddressInfo, Server } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import type { Protocol } from "../echo.ts";

/** What a peer is started with. */
export interface PeerJob {
  readonly protocol: Protocol;
  readonly service: DescService;
  /** A database of its own, for a peer that asks for one. */
  readonly databaseUrl: string;
  /** A folder of its own. */
  readonly directory: string;
  /** Of the peer's entry in the table. */
  readonly options: Readonly<Record<string, unknown>>;
}

export interface RunningPeer {
  readonly port: number;
  /** What a caller has to send; undefined: nobody asks. */
  readonly token?: string | undefined;
  close(): Promise<unknown>;
}

/** What the module of a peer exports as `start`. */
export type StartPeer = (job: PeerJob) => Promise<RunningPeer>;

/** Listens on a free port. */
export function listenOn(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}
