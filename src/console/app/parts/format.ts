/** Numbers, times and sizes as the console shows them, in the reader's own language and time zone. */
import { type Duration, type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 2 });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const relative = new Intl.RelativeTimeFormat(undefined, { style: "short" });
const now = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

/** E.g. "12,345". */
export const formatCount = (value: bigint | number): string => whole.format(value);

/** E.g. "1 key", "12,345 keys". */
export function formatCountOf(value: bigint | number, one: string): string {
  return `${formatCount(value)} ${one}${Number(value) === 1 ? "" : "s"}`;
}

/** E.g. "12.3K". */
export const formatCompact = (value: bigint | number): string => compact.format(value);

/** Of a part from 0 to 1, e.g. "2.5%"; "<0.01%" where there is a little. */
export function formatPercent(part: number): string {
  return part > 0 && part < 0.0001 ? `<${percent.format(0.0001)}` : percent.format(part);
}

/** E.g. "Nov 26, 2026, 3:04:05 PM". */
export const formatDateTime = (time: Timestamp): string => dateTime.format(timestampDate(time));

/** E.g. "Nov 26, 2026". */
export const formatDay = (time: Timestamp): string => day.format(timestampDate(time));

/** E.g. "Nov 26, 15:04:05", for rows of a log. */
export const formatClock = (time: Timestamp): string => clock.format(timestampDate(time));

/** Units with their seconds, each up to so many of them. */
const steps: readonly [unit: Intl.RelativeTimeFormatUnit, seconds: number, upTo: number][] = [
  ["second", 1, 60],
  ["minute", 60, 60],
  ["hour", 3_600, 24],
  ["day", 86_400, 120],
  ["month", 30.44 * 86_400, 12],
  ["year", 365.25 * 86_400, Number.POSITIVE_INFINITY],
];

/** E.g. "5 min. ago", "in 90 days", "now"; rounded. */
export function formatRelative(time: Timestamp, nowMs: number): string {
  const seconds = Math.round((timestampDate(time).getTime() - nowMs) / 1_000);
  if (Math.abs(seconds) < 10) return now.format(0, "second");
  const [unit, length] = steps.find(([, s, upTo]) => Math.abs(Math.round(seconds / s)) < upTo)!;
  return relative.format(Math.round(seconds / length), unit);
}

/** In milliseconds with their fractions. */
export function durationMs(duration: Duration): number {
  return Number(duration.seconds) * 1_000 + duration.nanos / 1e6;
}

/** Of milliseconds, with three digits: "0.123 ms", "45.6 ms", "1.23 s", "2 min 5 s". */
export function formatMs(ms: number): string {
  if (ms < 1_000) return `${ms === 0 ? 0 : Number(ms.toPrecision(3))} ms`;
  if (ms < 60_000) return `${Number((ms / 1_000).toPrecision(3))} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

export const formatDuration = (duration: Duration | undefined): string =>
  duration === undefined ? "–" : formatMs(durationMs(duration));

/** E.g. "512 B", "1.5 KiB". */
export function formatBytes(bytes: bigint | number): string {
  let value = Number(bytes);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1_024) return `${Number(value.toPrecision(3))} ${unit}`;
    value /= 1_024;
  }
  return `${Number(value.toPrecision(3))} TiB`;
}
