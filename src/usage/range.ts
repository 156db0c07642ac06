/** Ranges of time, and the rollups that make them up. All times are milliseconds since 1970 in UTC. */

export interface TimeRange {
  /** Inclusive. */
  readonly startMs: number;
  /** Exclusive. */
  readonly endMs: number;
}

/** Rollups of one period: those whose buckets begin within the range. */
export interface Piece extends TimeRange {
  readonly periodS: number;
}

/** What is folded, as of one snapshot. */
export interface Folded {
  /** Hours before this are folded; 0: none is. */
  readonly untilMs: number;
  /** Those of them that got more since: only the minutes have all of it. */
  readonly lateHours: ReadonlySet<number>;
}

export const minuteMs = 60_000;
export const hourMs = 3_600_000;
export const dayMs = 86_400_000;

/** Minutes are kept this long at least; hours and days take their place. */
export const minutesKeptMs = 30 * dayMs;
/** Hours are not folded again when they are older: their minutes might be gone the next moment. */
export const refoldedMs = 29 * dayMs;

/** The multiple of a unit at or before a time. */
export function floorTo(unitMs: number, ms: number): number {
  return Math.floor(ms / unitMs) * unitMs;
}

/** The smallest range of whole units that holds a range. */
export function widen({ startMs, endMs }: TimeRange, unitMs: number): TimeRange {
  return { startMs: floorTo(unitMs, startMs), endMs: Math.ceil(endMs / unitMs) * unitMs };
}

/**
 * The rollups that make up a range of whole minutes: every minute of it once, in
 * days where they are whole and folded, else in hours, else in minutes. In the
 * order of time; neighbours of one period are one piece.
 *
 * @param coarsestS no period longer than this, in seconds
 */
export function decompose({ startMs, endMs }: TimeRange, folded: Folded, coarsestS = 86_400): Piece[] {
  const lateDays = new Set([...folded.lateHours].map((hour) => floorTo(dayMs, hour)));
  const isFolded = (at: number, ms: number) =>
    at + ms <= folded.untilMs && !(ms === dayMs ? lateDays : folded.lateHours).has(at);
  const pieces: Piece[] = [];
  for (let at = startMs; at < endMs; ) {
    const whole = [dayMs, hourMs].find(
      (ms) => ms <= coarsestS * 1000 && at % ms === 0 && at + ms <= endMs && isFolded(at, ms),
    );
    const end = whole === undefined ? Math.min(endMs, floorTo(hourMs, at) + hourMs) : at + whole;
    const periodS = (whole ?? minuteMs) / 1000;
    const last = pieces.at(-1);
    if (last?.periodS === periodS) pieces[pieces.length - 1] = { ...last, endMs: end };
    else pieces.push({ periodS, startMs: at, endMs: end });
    at = end;
  }
  return pieces;
}
