/** Durations and times as people write them. All times are UTC. */
import {
  type Duration,
  type Timestamp,
  timestampDate,
  timestampFromDate,
  timestampFromMs,
} from "@bufbuild/protobuf/wkt";
import { InvalidArgumentError } from "commander";

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};

/** Milliseconds of a duration like 90d, 1h30m, 1.5h or 250ms; w is 7 days, y 365. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdwy])/g)];
  const ms = parts.reduce((sum, [, count, unit = ""]) => sum + Number(count) * (unitMs[unit] ?? 0), 0);
  if (text === "" || parts.map(([part]) => part).join("") !== text || !(ms <= 1e15)) {
    throw new InvalidArgumentError("It takes a duration like 90d, 1h30m or 250ms.");
  }
  return Math.round(ms);
}

/** A time that is past: so long ago, or a date or time. */
export function parsePast(text: string, now = Date.now()): Timestamp {
  if (text === "now") return timestampFromMs(now);
  return parseTime(text) ?? timestampFromMs(now - orElse(text, "1h, 2027-01-01, 2027-01-01T12:00Z or now"));
}

/** When something ends: after so long, or at a date or time; undefined: never. */
export function parseExpiry(text: string, now = Date.now()): { at: Timestamp | undefined } {
  if (text === "never") return { at: undefined };
  return {
    at: parseTime(text) ?? timestampFromMs(now + orElse(text, "90d, 2027-01-01, 2027-01-01T12:00Z or never")),
  };
}

/** A date, or a time with or without a zone; undefined: it looks like neither. */
function parseTime(text: string): Timestamp | undefined {
  const [, date, time = "00:00", zone = "Z"] =
    text.match(/^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?(Z|[+-]\d\d:\d\d)?$/i) ?? [];
  if (date === undefined) return undefined;
  const day = new Date(`${date}T00:00Z`);
  const at = new Date(`${date}T${time}${zone.toUpperCase()}`);
  // JavaScript takes 30 February for 2 March.
  if (!day.toJSON()?.startsWith(date) || Number.isNaN(at.getTime())) {
    throw new InvalidArgumentError("There is no such day or time.");
  }
  const fraction = time.split(".")[1] ?? "";
  const timestamp = timestampFromDate(at);
  if (fraction !== "") timestamp.nanos = Number(fraction.padEnd(9, "0"));
  return timestamp;
}

function orElse(text: string, examples: string): number {
  try {
    return parseDuration(text);
  } catch {
    throw new InvalidArgumentError(`It takes ${examples}.`);
  }
}

/** E.g. "2027-01-01T12:00:00Z"; nothing where there is none. */
export function formatTime(time: Timestamp | undefined, withMilliseconds = false): string {
  if (time === undefined) return "";
  const text = timestampDate(time).toISOString();
  return withMilliseconds ? text : text.replace(/\.\d+Z$/, "Z");
}

/** E.g. "1.25 ms", "3.2 s". */
export function formatDuration(duration: Duration | undefined): string {
  if (duration === undefined) return "";
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (ms >= 100_000) return `${Math.round(ms / 1000)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}
