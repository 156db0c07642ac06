/** Peers under load, in rounds that alternate between them. */
import { closeChildren } from "./child.ts";
import type { Protocol } from "./echo.ts";
import { runLoad } from "./h2load.ts";
import { type LoadValues, type MeasuredPeer, measuredPeer } from "./measured-peer.ts";
import type { Surroundings } from "./peer-process.ts";
import type { Peer } from "./peers.ts";
import type { Results } from "./results.ts";
import { type Shape, shapes } from "./shapes.ts";
import { runTimedLoad } from "./wrk.ts";

/** What a section is given. */
export interface SectionContext {
  readonly rounds: number;
  /** Of load or work, for each that is measured, in each round. */
  readonly seconds: number;
  /** Those that are asked for. */
  readonly peers: readonly Peer[];
  /** At most. */
  readonly keys: number;
  readonly surroundings: Surroundings;
  readonly results: Results;
  readonly say: (line: string) => void;
}

/**
 * Starts peers, and ends them when `run` is done. Rejects where `run` does, where one does not close
 * as it should, and where what one counted is not what it answered.
 */
export async function withPeers(
  peers: readonly Peer[],
  protocol: Protocol,
  surroundings: Surroundings,
  run: (measured: readonly MeasuredPeer[]) => Promise<void>,
): Promise<void> {
  const measured: MeasuredPeer[] = [];
  const processes = () => measured.map(({ process }) => process);
  try {
    for (const peer of peers) measured.push(await measuredPeer(peer, protocol, surroundings));
    await run(measured);
  } catch (error) {
    await closeChildren(processes()).catch(() => {});
    throw error;
  }
  await closeChildren(processes());
  for (const one of measured) await one.check();
}

/** Each is first in one round, and follows another one in every other. */
export function inTurn<T>(all: readonly T[], round: number): T[] {
  const shift = round % all.length;
  const turned = [...all.slice(shift), ...all.slice(0, shift)];
  return round % 2 === 0 ? turned : turned.reverse();
}

/** As many calls as can be answered, in each shape. `afterRound` measures what else belongs to a round. */
export async function measureThroughput(
  context: SectionContext,
  protocol: Protocol,
  afterRound?: (round: number) => Promise<void>,
): Promise<void> {
  const { rounds, results, say } = context;
  const peers = context.peers.filter((peer) => peer.protocols.includes(protocol));
  await withPeers(peers, protocol, context.surroundings, async (measured) => {
    const loads = new Map(measured.map((one) => [one, saturating(one, context)]));
    // Round 0 compiles.
    for (let round = 0; round <= rounds; round++) {
      for (const shape of shapes[protocol]) {
        for (const one of inTurn(measured, round)) {
          if (leavesOut(one.peer, shape)) continue;
          const values = await loads.get(one)?.(shape);
          const [section, subject, variant] = [protocol, one.peer.id, shape.id];
          if (round > 0 && values !== undefined) {
            results.add({ section, subject, variant, round, values });
          }
        }
      }
      if (round === 0) continue;
      await afterRound?.(round);
      say(`${protocol}: round ${round} of ${rounds}`);
    }
  });
}

/** Loads a peer for about so many seconds with all that it can answer. */
export function saturating(
  one: MeasuredPeer,
  context: Pick<SectionContext, "seconds" | "surroundings">,
): (shape: Shape) => Promise<LoadValues> {
  if (one.process.protocol === "grpc") return countedLoads(one, context);
  const { seconds } = context;
  return ({ connections }) => one.load((target) => runTimedLoad(target, { connections, seconds }));
}

/** Of as many calls as it answered in that time when it was last asked. */
function countedLoads(
  one: MeasuredPeer,
  { seconds, surroundings }: Pick<SectionContext, "seconds" | "surroundings">,
): (shape: Shape) => Promise<LoadValues> {
  const perS = new Map<string, number>();
  const timeoutS = timeoutOf(seconds);
  const load = async ({ id, connections, streams }: Shape, share: number) => {
    // As many on each connection, and at least as many as it may have at once.
    const each = Math.max(streams, Math.ceil(((perS.get(id) ?? 0) * seconds * share) / connections));
    const values = await one.load((target) =>
      runLoad(
        target,
        { connections, streams, requests: each * connections, timeoutS },
        surroundings.directory,
      ),
    );
    // One that stops answering is asked for as little as can be.
    perS.set(id, values.failed > 0 ? 0 : values.perS);
    return values;
  };
  return async (shape) => {
    if (perS.has(shape.id)) return load(shape, 1);
    // From nothing: the first ones are slow, and say little of those that follow.
    await load(shape, 1);
    await load(shape, 1 / 3);
    return load(shape, 1 / 3);
  };
}

/** Seconds after which nothing more is waited for, of a load that was to take so many. */
export function timeoutOf(seconds: number): number {
  return Math.ceil(seconds * 2) + 4;
}

/** Those that write to the database for each call would take minutes. */
function leavesOut(peer: Peer, shape: Shape): boolean {
  return peer.slow === true && shape.flood === true;
}
