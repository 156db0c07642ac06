/** Moments as the address keeps them, the same wherever a link is opened, and as fields show them, in local time. */
import type { Field } from "../search.ts";

/** An ISO 8601 time, in UTC. One without an offset, as links had it before, is local; a day alone is its beginning. */
export const moment: Field<string> = (value) => {
  // What is not escaped in an address makes a space of +.
  const text = value.replace(/ (\d\d:?\d\d)$/, "+$1");
  const date = new Date(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00` : text);
  return Number.isNaN(date.getTime()) ? undefined : momentOf(date);
};

/** Without what a link need not say. */
function momentOf(date: Date): string {
  return date.toISOString().replace(/(:00)?\.000Z$/, "Z");
}

/** As fields for a date and for a time have them. */
export interface LocalTime {
  readonly date: string;
  readonly time: string;
}

export function localTime(value: string | undefined): LocalTime {
  if (value === undefined) return { date: "", time: "" };
  const at = new Date(value);
  const digits = (number: number, length = 2) => String(number).padStart(length, "0");
  return {
    date: [digits(at.getFullYear(), 4), digits(at.getMonth() + 1), digits(at.getDate())].join("-"),
    time: [digits(at.getHours()), digits(at.getMinutes())].join(":"),
  };
}

/** A day without a time means all of it: it begins, or ends, with it. A time without a day is today's. */
export function momentAt({ date, time }: LocalTime, end: "begins" | "ends"): string | undefined {
  if (date === "" && time === "") return undefined;
  const day = date === "" ? localTime(new Date().toISOString()).date : date;
  return moment(`${day}T${time || (end === "begins" ? "00:00" : "23:59:59.999")}`);
}

/** The day that began so many days ago, from its midnight to the next one. */
export function dayAgo(days: number): { from: string; to: string } {
  const midnight = (ago: number) => {
    const day = new Date();
    day.setHours(0, 0, 0, 0);
    day.setDate(day.getDate() - ago);
    return momentOf(day);
  };
  return { from: midnight(days), to: midnight(days - 1) };
}
