/**
 * p99 at half of saturation: what authentication, counting and logging add to it.
 *
 * All servers get the same number of calls a second, half of what the slowest of them can answer on as many
 * connections, and in each round the same calls at the same times, whether or not those before are answered.
 */
import { poisson, runPaced } from "./h2load.ts";
import { inTurn, type SectionContext, saturating, timeoutOf, withPeers } from "./load-rounds.ts";
import { median } from "./statistics.ts";
import { figure, table } from "./table.ts";

export const section = "p99";
const shape = { id: "100 x 1", connections: 100, streams: 1 };
const ids = ["off", "auth", "batched"];
/** A tail needs more calls than a mean. */
const longer = 2;

export async function measureTail(context: SectionContext): Promise<string> {
  const { results, rounds, surroundings, say } = context;
  const seconds = context.seconds * longer;
  const peers = context.peers.filter(({ id }) => ids.includes(id));
  if (peers.length === 0) return `p99 is measured of ${ids.join(", ")}: none of them is asked for.`;
  let perS = 0;
  await withPeers(peers, "grpc", surroundings, async (measured) => {
    const most: number[] = [];
    for (const one of measured) {
      const saturate = saturating(one, context);
      const rates = [];
      for (let n = 0; n < 8; n++) rates.push((await saturate(shape)).perS);
      // The first ones compile.
      most.push(median(rates.slice(-3)));
    }
    perS = Math.round(Math.min(...most) / 2);
    for (let round = 0; round <= rounds; round++) {
      const { connections } = shape;
      const load = {
        connections,
        schedule: poisson(perS / connections, seconds),
        timeoutS: timeoutOf(seconds),
      };
      for (const one of inTurn(measured, round)) {
        const values = await one.load((target) => runPaced(target, load, surroundings.directory));
        if (round === 0) continue;
        results.add({ section, subject: one.peer.id, variant: "half", round, values });
      }
      if (round > 0) say(`p99: round ${round} of ${rounds}`);
    }
  });
  const which = (subject: string, value: string) => ({ section, subject, variant: "half", value });
  return table(
    [
      ...[`gRPC at half of saturation, ${figure(perS)} calls/s asked for`, "calls/s"],
      ...["p50 ms", "p99 ms", "p99 × everything off"],
    ],
    peers.map(({ id, name }) => [
      name,
      figure(results.median(which(id, "perS"))),
      figure(results.median(which(id, "p50Ms"))),
      figure(results.median(which(id, "p99Ms"))),
      figure(results.ratio(which(id, "p99Ms"), which("off", "p99Ms"))),
    ]),
  );
}
