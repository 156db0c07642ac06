/** A peer under load: each load between two calls of a true client, its answers tallied, its processor watched. */
import { grpcFrame, type Protocol } from "./echo.ts";
import { readJsonAnswer } from "./json-call.ts";
import { laidOut } from "./laid-out.ts";
import type { LoadResult, Target } from "./load.ts";
import { type Places, processorTimes, processS } from "./machine.ts";
import { type PeerProcess, type Surroundings, startPeer } from "./peer-process.ts";
import type { Peer } from "./peers.ts";
import { createTally } from "./tally.ts";

export interface LoadValues extends Record<string, number> {
  /** Calls answered ok a second. */
  perS: number;
  ok: number;
  /** Calls answered otherwise, or not at all. */
  failed: number;
  p50Ms: number;
  p99Ms: number;
  /** Calls answered ok a second of the peer's own processor time: whoever else is there takes nothing from it. */
  perServerS: number;
  /** Milliseconds until it answered a client after the load. */
  silentMs: number;
  /** Seconds until the rows of the log were laid out, after it; NaN: it has no log. */
  laidOutS: number;
  /** Of the server's processor: what the peer took of it, and all others. */
  serverShare: number;
  othersShare: number;
  /** Of the load's processors: how busy they were. */
  loadShare: number;
}

export interface MeasuredPeer {
  readonly peer: Peer;
  readonly process: PeerProcess;
  /** Runs a load on it. Rejects where a client gets a wrong answer before or after. */
  load(run: (target: Target) => Promise<LoadResult>): Promise<LoadValues>;
  /** To be called when its process is closed: rejects where it counted something else than it answered. */
  check(): Promise<void>;
}

/** Starts a peer to be measured. */
export async function measuredPeer(
  peer: Peer,
  protocol: Protocol,
  surroundings: Surroundings,
): Promise<MeasuredPeer> {
  const process = await startPeer(peer, protocol, surroundings);
  const tally = createTally();

  /** Calls once. Rejects where the answer is wrong. */
  async function once<T>(call: () => Promise<T>): Promise<T> {
    try {
      const answer = await call();
      tally.add({ ok: 1, begun: 1 });
      return answer;
    } catch (error) {
      const what = error instanceof Error ? error.message : error;
      throw new Error(`${peer.id} (${protocol}) gives a client a wrong answer: ${what}`);
    }
  }

  /** What a load counts of each answer. */
  async function answerBytes(): Promise<number> {
    return protocol === "grpc" ? grpcFrame.length : once(() => readJsonAnswer(process));
  }

  return {
    peer,
    process,
    async load(run) {
      await once(process.verify);
      const target = { url: process.url, token: process.token, answerBytes: await answerBytes() };
      const before = look(process.pid, surroundings.places);
      const began = performance.now();
      const result = await run(target);
      const seconds = (performance.now() - began) / 1000;
      const after = look(process.pid, surroundings.places);
      tally.add(result);
      const ended = performance.now();
      await once(process.verify);
      const silentMs = performance.now() - ended;
      const ownS = after.ownS - before.ownS;
      // Whoever comes next is not to be measured beside it.
      const isLogged = peer.countsPerCall === 1 && process.databaseUrl !== undefined;
      const laidOutS = isLogged ? (await laidOut(process.databaseUrl)) / 1000 : Number.NaN;
      return {
        ...{ perS: result.ok / result.seconds, ok: result.ok, failed: result.failed },
        ...{ p50Ms: result.p50Ms, p99Ms: result.p99Ms, perServerS: result.ok / ownS },
        ...{ silentMs, laidOutS },
        serverShare: ownS / seconds,
        othersShare: (after.serverS - before.serverS - ownS) / seconds,
        loadShare: (after.load.busyS - before.load.busyS) / (after.load.totalS - before.load.totalS),
      };
    },
    check: () => tally.check(process),
  };
}

function look(pid: number, places: Places) {
  return {
    ownS: processS(pid),
    serverS: processorTimes(places.server).busyS,
    load: processorTimes(places.load),
  };
}
