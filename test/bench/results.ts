/** What was measured, and its medians and ratios. */
import { median, medianRatio } from "./statistics.ts";

export interface Measurement {
  readonly section: string;
  /** The id of a peer, or what else was measured. */
  readonly subject: string;
  /** Under which circumstances: a load's shape, a number of keys. */
  readonly variant: string;
  /** From 1. */
  readonly round: number;
  readonly values: Readonly<Record<string, number>>;
}

/** One value of a subject under some circumstances. */
export interface Which {
  readonly section: string;
  readonly subject: string;
  readonly variant: string;
  readonly value: string;
}

export interface Results {
  readonly measurements: readonly Measurement[];
  add(measurement: Measurement): void;
  /** Of each round, from the first on; what is missing is NaN. */
  series(which: Which): number[];
  /** NaN where nothing was measured. */
  median(which: Which): number;
  /** The median of the rounds' ratios; NaN where one of them was not measured. */
  ratio(a: Which, b: Which): number;
}

export function createResults(): Results {
  const measurements: Measurement[] = [];

  function series({ section, subject, variant, value }: Which): number[] {
    const found: number[] = [];
    for (const one of measurements) {
      if (one.section !== section || one.subject !== subject || one.variant !== variant) continue;
      found[one.round - 1] = one.values[value] ?? Number.NaN;
    }
    return Array.from(found, (number) => number ?? Number.NaN);
  }

  return {
    measurements,
    add: (measurement) => measurements.push(measurement),
    series,
    median: (which) => median(series(which).filter(Number.isFinite)),
    ratio: (a, b) => medianRatio(series(a), series(b)),
  };
}
