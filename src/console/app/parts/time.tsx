import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { formatClock, formatDateTime, formatRelative } from "./format.ts";
import { useNow } from "./use-now.ts";

interface TimeProps {
  /** Unset shows the text given as `none`. */
  readonly value: Timestamp | undefined;
  readonly none?: string;
  /** "relative" ("5 min. ago", the default), "clock" ("Nov 26, 15:04:05") or "full". */
  readonly as?: "relative" | "clock" | "full";
}

/** A moment; the exact one is its title. */
export function Time({ value, none = "–", as = "relative" }: TimeProps) {
  const now = useNow();
  if (value === undefined) return <span className="dim">{none}</span>;
  const full = formatDateTime(value);
  const shown = as === "relative" ? formatRelative(value, now) : as === "clock" ? formatClock(value) : full;
  return (
    <time dateTime={timestampDate(value).toISOString()} title={full} className="num">
      {shown}
    </time>
  );
}
