/**
 * p99 at half of saturation: what authentication, counting and logging add to it.
 *
 * Both servers get the same number of calls a second, half of what the guarded one can answer. They
 * are sent when they are due, not when the one before is answered: each connection may have far more
 * under way than it ever needs. h2load counts from when it sends, so that what its own processor was
 * late with belongs to neither.
 */
import { inTurn, type SectionContext, saturating, withPeers } from "./load-rounds.ts";
import { median } from "./statistics.ts";
import { figure, table } from "./table.ts";

export const section = "p99";
const shape = { id: "10 x 10", connections: 10, streams: 10 };
const roomy = { ...shape, streams: 100 };
const ids = ["off", "auth", "batched"];
/** A tail needs more calls than a mean. */
const longer = 2;

export async function measureTail(context: SectionContext): Promise<string> {
  const { results, rounds, surroundings, say } = context;
  const seconds = context.seconds * longer;
  const peers = context.peers.filter(({ id }) => ids.includes(id));
  let perS = 0;
  await withPeers(peers, "grpc", surroundings, async (measured) => {
    const most: number[] = [];
    for (const one of measured) {
      const saturate = saturating(one, context.seconds);
      const rates = [];
      for (let n = 0; n < 3; n++) rates.push((await saturate(shape)).perS);
      most.push(median(rates));
    }
    perS = Math.round(Math.min(...most) / 2);
    for (let round = 0; round <= rounds; round++) {
      for (const one of inTurn(measured, round)) {
        const values = await one.load({
          ...{ shape: roomy, requests: perS * seconds, perS },
          timeoutS: Math.ceil(seconds * 2) + 4,
        });
        if (round === 0) continue;
        results.add({ section, subject: one.peer.id, variant: "half", round, values });
      }
      if (round > 0) say(`p99: round ${round} of ${rounds}`);
    }
  });
  const which = (subject: string, value: string) => ({ section, subject, variant: "half", value });
  return table(
    [`gRPC at half of saturation, ${figure(perS)} calls/s`, "p50 ms", "p99 ms", "p99 × everything off"],
    peers.map(({ id, name }) => [
      name,
      figure(results.median(which(id, "p50Ms"))),
      figure(results.median(which(id, "p99Ms"))),
      figure(results.ratio(which(id, "p99Ms"), which("off", "p99Ms"))),
    ]),
  );
}
