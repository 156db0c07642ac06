/** Calls a second of each peer, in each shape of the load, in rounds that alternate between the peers. */
import type { Protocol } from "./echo.ts";
import { type LoadResult, runLoad } from "./h2load.ts";
import { processorTimes, processS } from "./machine.ts";
import { type PeerProcess, type Surroundings, startPeer } from "./peer-process.ts";
import type { Peer } from "./peers.ts";
import type { Results } from "./results.ts";
import { type Shape, shapes } from "./shapes.ts";
import { createTally, type Tally } from "./tally.ts";

export interface LoadRounds {
  readonly protocol: Protocol;
  readonly peers: readonly Peer[];
  readonly rounds: number;
  readonly seconds: number;
  readonly surroundings: Surroundings;
  readonly results: Results;
  readonly say: (line: string) => void;
}

interface Measured {
  readonly process: PeerProcess;
  readonly tally: Tally;
  /** Calls a second that it last made in a shape, by the shape's id. */
  readonly perS: Map<string, number>;
}

/**
 * Measures. Rejects where a peer gives a true client a wrong answer, and where what one counted is
 * not what it answered; in the end none of its peers runs.
 */
export async function measureLoad(options: LoadRounds): Promise<void> {
  const measured: Measured[] = [];
  try {
    for (const peer of options.peers) {
      const process = await startPeer(peer, options.protocol, options.surroundings);
      measured.push({ process, tally: createTally(), perS: new Map() });
    }
    for (const shape of shapes[options.protocol]) {
      for (const one of measured) await warm(options, one, shape);
    }
    for (let round = 1; round <= options.rounds; round++) {
      for (const shape of shapes[options.protocol]) {
        for (const one of inTurn(measured, round)) {
          const values = await measureOnce(options, one, shape);
          if (values !== undefined) {
            const [section, subject, variant] = [options.protocol, one.process.peer.id, shape.id];
            options.results.add({ section, subject, variant, round, values });
          }
        }
      }
      options.say(`${options.protocol}: round ${round} of ${options.rounds}`);
    }
  } finally {
    await Promise.allSettled(measured.map(({ process }) => process.close()));
  }
  for (const { process, tally } of measured) await tally.check(process);
}

/** Each is first in one round, and follows another one in every other. */
function inTurn<T>(all: readonly T[], round: number): T[] {
  const shift = round % all.length;
  const turned = [...all.slice(shift), ...all.slice(0, shift)];
  return round % 2 === 0 ? turned : turned.reverse();
}

/** Compiles its code, and finds out how many calls take as long as they are to. */
async function warm(options: LoadRounds, one: Measured, shape: Shape): Promise<void> {
  if (leavesOut(one.process.peer, shape)) return;
  one.perS.set(shape.id, (shape.connections * shape.streams) / options.seconds);
  for (let run = 0; run < 3; run++) await measureOnce(options, one, shape);
}

async function measureOnce(
  options: LoadRounds,
  one: Measured,
  shape: Shape,
): Promise<Record<string, number> | undefined> {
  const { process, tally, perS } = one;
  if (leavesOut(process.peer, shape)) return undefined;
  const { places, directory } = options.surroundings;
  await verify(one);
  // As many on each connection, and at least as many as are to be under way at once.
  const each = Math.max(
    shape.streams,
    Math.ceil(((perS.get(shape.id) ?? 0) * options.seconds) / shape.connections),
  );
  const before = look(process.pid, places);
  const began = performance.now();
  const result = await runLoad(
    {
      ...{ protocol: options.protocol, url: process.url, token: process.token },
      ...{ connections: shape.connections, streams: shape.streams, requests: each * shape.connections },
      timeoutS: Math.ceil(options.seconds * 4),
    },
    directory,
  );
  const seconds = (performance.now() - began) / 1000;
  const after = look(process.pid, places);
  tally.add(result);
  await verify(one);
  perS.set(shape.id, nextRate(result));
  return {
    ...{ perS: result.ok / result.seconds, ok: result.ok, failed: result.failed, seconds: result.seconds },
    ...{ p50Ms: result.p50Ms, p99Ms: result.p99Ms },
    // Whoever else is on the processor takes nothing from this.
    perServerS: result.ok / (after.ownS - before.ownS),
    serverShare: (after.ownS - before.ownS) / seconds,
    othersShare: (after.serverS - before.serverS - (after.ownS - before.ownS)) / seconds,
    loadShare: (after.load.busyS - before.load.busyS) / (after.load.totalS - before.load.totalS),
  };
}

/** Those that write to the database for each call would take minutes. */
function leavesOut(peer: Peer, shape: Shape): boolean {
  return peer.slow === true && shape.flood === true;
}

/** One that stopped answering is asked for as little as can be. */
function nextRate({ ok, failed, seconds }: LoadResult): number {
  return failed > 0 ? 0 : ok / seconds;
}

async function verify({ process, tally }: Measured): Promise<void> {
  try {
    await process.verify();
  } catch (error) {
    const name = `${process.peer.id} (${process.protocol})`;
    throw new Error(
      `${name} gives a client a wrong answer: ${error instanceof Error ? error.message : error}`,
    );
  }
  tally.add({ ok: 1, begun: 1 });
}

function look(pid: number, places: { server: string; load: string }) {
  return {
    ownS: processS(pid),
    serverS: processorTimes(places.server).busyS,
    load: processorTimes(places.load),
  };
}
