/** One key on one server: calls again and again until it has been refused for good. */
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import type { ServerProcess } from "../harness/server.ts";
import { epochMs } from "./figures.ts";

/** Times are those of {@link epochMs}. */
export interface Probe {
  /** Resolves once the key was accepted for the first time. */
  readonly accepted: Promise<void>;
  /** Resolves once it was refused and so often again. Rejects where that does not happen in 20 s. */
  readonly refused: Promise<Refused>;
}

export interface Refused {
  /** When the answer of the first refusal came. */
  readonly firstAt: number;
  readonly code: Code;
  /** When the last call began that was accepted. */
  readonly lastAcceptedBegan: number;
  /** Calls that were accepted though they began after a refusal had come. */
  readonly acceptedAgain: number;
  /** Calls that had no verdict. */
  readonly unavailable: number;
}

const refusalsWanted = 5;
/** Between two calls: the machine is to be loaded, not flooded by those who measure. */
const pauseMs = 3;
const longestMs = 20_000;
const transports = new Map<string, Transport>();

/** Calls once. Undefined: it was accepted. */
export async function callOnce(
  { url }: Pick<ServerProcess, "url">,
  token: string,
  userId: bigint,
): Promise<ConnectError | undefined> {
  const transport = transports.get(url) ?? createGrpcTransport({ baseUrl: url, defaultTimeoutMs: longestMs });
  transports.set(url, transport);
  try {
    await createClient(UserService, transport).getUser({ userId }, { headers: { "x-api-key": token } });
    return undefined;
  } catch (error) {
    return ConnectError.from(error);
  }
}

export function startProbe(server: ServerProcess, key: { token: string; userId: bigint }): Probe {
  const accepted = Promise.withResolvers<void>();
  async function run(): Promise<Refused> {
    const giveUpAt = performance.now() + longestMs;
    const found = { firstAt: 0, code: Code.Unknown, lastAcceptedBegan: 0, acceptedAgain: 0, unavailable: 0 };
    let refusals = 0;
    while (refusals < refusalsWanted) {
      if (performance.now() > giveUpAt)
        throw new Error(`not refused by ${server.url}: ${JSON.stringify(found)}`);
      await sleep(pauseMs);
      const beganAt = epochMs(performance.now());
      const error = await callOnce(server, key.token, key.userId);
      if (error === undefined) {
        accepted.resolve();
        found.lastAcceptedBegan = beganAt;
        if (refusals > 0) found.acceptedAgain++;
      } else if (error.code === Code.Unauthenticated || error.code === Code.PermissionDenied) {
        if (refusals++ > 0) continue;
        found.firstAt = epochMs(performance.now());
        found.code = error.code;
      } else if (error.code === Code.Unavailable) found.unavailable++;
      else throw error;
    }
    return found;
  }
  const refused = run();
  refused.catch(accepted.reject);
  accepted.promise.catch(() => {});
  return { accepted: accepted.promise, refused };
}
