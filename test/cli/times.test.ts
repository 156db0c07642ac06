/** Durations and times as people write them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { formatDuration, formatTime, parseDuration, parseExpiry, parsePast } from "../../src/cli/times.ts";

const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000];
const now = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

for (const [text, ms] of [
  ["90d", 90 * day],
  ["1h30m", 90 * minute],
  ["1.5h", 90 * minute],
  ["0s", 0],
  ["250ms", 250],
  ["2w", 14 * day],
  ["1y", 365 * day],
  ["1d2h3m4s5ms", day + 2 * hour + 3 * minute + 4 * second + 5],
] as const) {
  test(`${text} is ${ms} ms`, () => assert.equal(parseDuration(text), ms));
}

for (const text of [
  "",
  "90",
  "d",
  "1 h",
  "-1h",
  "1h-",
  "1.h",
  "h1",
  "1M",
  "1mo",
  `${"9".repeat(30)}d`,
  "1e3s",
]) {
  test(`${JSON.stringify(text)} is no duration`, () => assert.throws(() => parseDuration(text), /like 90d/));
}

for (const [text, iso] of [
  ["2027-01-01", "2027-01-01T00:00:00.000Z"],
  ["2027-01-01T12:00", "2027-01-01T12:00:00.000Z"],
  ["2027-01-01 12:00:30", "2027-01-01T12:00:30.000Z"],
  ["2027-01-01T12:00Z", "2027-01-01T12:00:00.000Z"],
  ["2027-01-01T12:00:00.25+02:00", "2027-01-01T10:00:00.250Z"],
  ["2028-02-29", "2028-02-29T00:00:00.000Z"],
] as const) {
  test(`${text} is ${iso}, to come or past`, () => {
    assert.equal(formatTime(parseExpiry(text).at, true), iso);
    assert.equal(formatTime(parsePast(text), true), iso);
  });
}

test("a time keeps what it has below the millisecond", () => {
  assert.equal(parsePast("2027-01-01T00:00:00.123456789Z").nanos, 123_456_789);
});

test("a duration is ago, or from now", () => {
  assert.equal(timestampMs(parsePast("1h", now)), now - hour);
  assert.equal(timestampMs(parsePast("now", now)), now);
  assert.equal(timestampMs(parseExpiry("90d", now).at!), now + 90 * day);
  assert.deepEqual(parseExpiry("never"), { at: undefined });
});

for (const text of ["", "soon", "never ever", "27-01-01", "2027-1-1", "tomorrow", "2027-01-01T25"]) {
  test(`${JSON.stringify(text)} is no time`, () => {
    assert.throws(() => parseExpiry(text), /90d, 2027-01-01, 2027-01-01T12:00Z or never/);
    assert.throws(() => parsePast(text), /1h, 2027-01-01/);
  });
}

for (const text of ["2027-02-30", "2027-13-01", "2027-01-01T25:00", "2027-01-01T12:60Z"]) {
  test(`${text} is told to be no such time`, () =>
    assert.throws(() => parsePast(text), /no such day or time/));
}

for (const [ms, text] of [
  [0.1, "0.10 ms"],
  [12.34, "12.3 ms"],
  [123.4, "123 ms"],
  [1234, "1.2 s"],
  [123_456, "123 s"],
] as const) {
  test(`${ms} ms is shown as ${text}`, () => {
    const duration = durationFromMs(Math.floor(ms));
    duration.nanos = Math.round((ms % 1000) * 1e6);
    assert.equal(formatDuration(duration), text);
  });
}
