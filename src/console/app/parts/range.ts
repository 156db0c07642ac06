/** Time ranges that end now. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

export const ranges = ["15m", "1h", "6h", "24h", "7d", "30d"] as const;
export type Range = (typeof ranges)[number];

export const rangeWords: Record<Range, string> = {
  "15m": "15 minutes",
  "1h": "1 hour",
  "6h": "6 hours",
  "24h": "24 hours",
  "7d": "7 days",
  "30d": "30 days",
};

const minute = 60_000;
export const rangeMs: Record<Range, number> = {
  "15m": 15 * minute,
  "1h": 60 * minute,
  "6h": 360 * minute,
  "24h": 1_440 * minute,
  "7d": 7 * 1_440 * minute,
  // A little less: minutes are kept for 30 days.
  "30d": 30 * 1_440 * minute - 5 * minute,
};

/** The range up to a moment, as requests have it. */
export function rangeUpTo(range: Range, endMs: number) {
  return { startTime: timestampFromMs(endMs - rangeMs[range]), endTime: timestampFromMs(endMs) };
}
