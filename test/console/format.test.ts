/** How the console words times that are some while away. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { formatRelative } from "../../src/console/app/parts/format.ts";

const nowMs = Date.UTC(2026, 10, 26, 12);
const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

const away: [ms: number, value: number, unit: Intl.RelativeTimeFormatUnit][] = [
  [-59 * second, -59, "second"],
  [-59.6 * second, -1, "minute"],
  [-150 * second, -2, "minute"],
  [59.7 * minute, 1, "hour"],
  [52 * minute, 52, "minute"],
  [23.4 * hour, 23, "hour"],
  [23.9 * hour, 1, "day"],
  [24 * hour - 5 * second, 1, "day"],
  [7 * day, 7, "day"],
  [30 * day - minute, 30, "day"],
  [90 * day - minute, 90, "day"],
  [119 * day, 119, "day"],
  [180 * day, 6, "month"],
  [-270 * day, -9, "month"],
  [365 * day - minute, 1, "year"],
  [-3 * 365 * day, -3, "year"],
];

test("times are told in the unit that fits, rounded: 90 days are not 2 months", () => {
  const format = new Intl.RelativeTimeFormat(undefined, { style: "short" });
  for (const [ms, value, unit] of away) {
    assert.equal(formatRelative(timestampFromMs(nowMs + ms), nowMs), format.format(value, unit));
  }
});

test("what is within ten seconds is now", () => {
  const now = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" }).format(0, "second");
  for (const ms of [-9 * second, 0, 9 * second]) {
    assert.equal(formatRelative(timestampFromMs(nowMs + ms), nowMs), now);
  }
});
