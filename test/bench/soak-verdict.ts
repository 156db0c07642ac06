/** Whether a series of samples is flat. */
import { median } from "./statistics.ts";

export interface Sample {
  /** Minutes since the load began. */
  readonly minute: number;
  readonly rssMiB: number;
  /** NaN: not known. */
  readonly heapMiB: number;
  readonly descriptors: number;
  readonly databaseConnections: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Share of the machine's processors that others took; NaN: not known. */
  readonly othersShare: number;
}

export interface Finding {
  readonly what: string;
  /** Undefined: nothing can be said. */
  readonly flat: boolean | undefined;
  readonly text: string;
}

/** Latency says nothing about the server where others take more of the processors than this. */
const mostOthers = 0.2;

/**
 * By how much each may grow over the time that is judged: a share of its median, or so
 * much, whichever is more. An hour's growth of a leak of 100 bytes a call at 300 calls a
 * second is 100 MiB.
 */
const allowances = [
  { what: "heap", unit: "MiB", of: (s: Sample) => s.heapMiB, share: 0.08, least: 3 },
  { what: "resident memory", unit: "MiB", of: (s: Sample) => s.rssMiB, share: 0.1, least: 16 },
  { what: "descriptors", unit: "", of: (s: Sample) => s.descriptors, share: 0.05, least: 4 },
  { what: "database connections", unit: "", of: (s: Sample) => s.databaseConnections, share: 0, least: 3 },
] as const;

/** Judges the samples after the first third, in which caches fill and code is compiled. */
export function judge(samples: readonly Sample[]): Finding[] {
  const third = Math.floor(samples.length / 3);
  const judged = samples.slice(third);
  const findings: Finding[] = allowances.map(({ what, unit, of, share, least }) => {
    const points = judged.map((s) => [s.minute, of(s)] as const).filter(([, value]) => !Number.isNaN(value));
    if (points.length < 3) return { what, flat: false, text: "too few samples" };
    const middle = median(points.map(([, value]) => value));
    const minutes = (points.at(-1)?.[0] ?? 0) - (points[0]?.[0] ?? 0);
    const grown = slope(points) * minutes;
    const allowed = Math.max(least, share * middle);
    const numbers = [middle, slope(points) * 60, grown, allowed].map((n) => n.toFixed(1));
    const text = `median ${numbers[0]} ${unit}, ${numbers[1]} an hour: ${numbers[2]} in ${minutes.toFixed(0)} min, at most ${numbers[3]}`;
    return { what, flat: grown <= allowed, text };
  });
  findings.push(
    compareThirds(samples, "p50", (s) => s.p50Ms, 1.5, 2),
    compareThirds(samples, "p99", (s) => s.p99Ms, 2, 20),
  );
  return findings;
}

/** The last third against the middle one: what grows with the rows of the log would show. */
function compareThirds(
  samples: readonly Sample[],
  what: string,
  of: (s: Sample) => number,
  times: number,
  leastMs: number,
): Finding {
  const third = Math.floor(samples.length / 3);
  const middle = median(samples.slice(third, -third || undefined).map(of));
  const last = median(samples.slice(-third || 0).map(of));
  const allowed = middle * times + leastMs;
  const text = `${middle.toFixed(1)} ms in the middle third, ${last.toFixed(1)} in the last, at most ${allowed.toFixed(1)}`;
  const others = median(samples.slice(third).map((s) => s.othersShare));
  if (others > mostOthers && last > allowed) {
    const why = `others took ${(others * 100).toFixed(0)} % of the processors`;
    return { what, flat: undefined, text: `${text}: not judged, ${why}` };
  }
  return { what, flat: last <= allowed, text };
}

/** The median of the slopes between all pairs of points (Theil and Sen): an outlier does not move it. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const slopes = points.flatMap(([x, y], i) => points.slice(i + 1).map(([x2, y2]) => (y2 - y) / (x2 - x)));
  return median(slopes.filter(Number.isFinite));
}
