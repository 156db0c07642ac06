/** Ranges in days, hours and minutes: every minute once, and no minutes where longer periods do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { dayMs, decompose, floorTo, hourMs, minuteMs, type Piece, widen } from "../../src/usage/range.ts";

const origin = Date.UTC(2031, 2, 28);
const at = (days: number, hours = 0, minutes = 0) =>
  origin + days * dayMs + hours * hourMs + minutes * minuteMs;
const minutesIn = (days: number) => days * 24 * 60;

const anyCase = fc.record({
  start: fc.integer({ min: 0, max: minutesIn(5) }),
  length: fc.integer({ min: 0, max: minutesIn(5) }),
  foldedHours: fc.integer({ min: -24, max: 24 * 10 }),
  late: fc.array(fc.integer({ min: 0, max: 24 * 10 }), { maxLength: 4 }),
  coarsestS: fc.constantFrom(60, 3600, 86_400),
});

test("pieces hold each minute of the range once, in order, and nothing that is not folded but minutes", () => {
  fc.assert(
    fc.property(anyCase, ({ start, length, foldedHours, late, coarsestS }) => {
      const range = { startMs: at(0, 0, start), endMs: at(0, 0, start + length) };
      const untilMs = at(0, foldedHours);
      const lateHours = new Set(late.map((hour) => at(0, hour)));
      const pieces = decompose(range, { untilMs, lateHours }, coarsestS);
      let reached = range.startMs;
      for (const { periodS, startMs, endMs } of pieces) {
        const periodMs = periodS * 1000;
        assert.equal(startMs, reached);
        assert.ok(endMs > startMs && periodS <= coarsestS);
        assert.ok(startMs % periodMs === 0 && endMs % periodMs === 0);
        if (periodS > 60) {
          assert.ok(endMs <= untilMs);
          for (const hour of lateHours) {
            assert.ok(floorTo(periodMs, hour) < startMs || floorTo(periodMs, hour) >= endMs);
          }
        }
        reached = endMs;
      }
      assert.equal(reached, range.endMs);
      assertCoarsest(pieces, { untilMs, lateHours, coarsestS, ...range });
    }),
    { numRuns: 2000 },
  );
});

/** No hour or day that could be read as one is read in parts. */
function assertCoarsest(
  pieces: readonly Piece[],
  of: { startMs: number; endMs: number; untilMs: number; lateHours: Set<number>; coarsestS: number },
) {
  for (const periodMs of [hourMs, dayMs].filter((ms) => ms <= of.coarsestS * 1000)) {
    for (
      let begin = Math.ceil(of.startMs / periodMs) * periodMs;
      begin + periodMs <= of.endMs;
      begin += periodMs
    ) {
      const isLate = [...of.lateHours].some((hour) => floorTo(periodMs, hour) === begin);
      if (isLate || begin + periodMs > of.untilMs) continue;
      const piece = pieces.find(({ startMs, endMs }) => startMs <= begin && begin < endMs);
      assert.ok(piece !== undefined && piece.periodS * 1000 >= periodMs);
    }
  }
}

test("a month that is folded but for its end is days, hours and minutes", () => {
  const range = { startMs: at(0, 22, 58), endMs: at(30, 2, 30) };
  const folded = { untilMs: at(30, 1), lateHours: new Set([at(9, 5)]) };
  assert.deepEqual(decompose(range, folded), [
    { periodS: 60, startMs: at(0, 22, 58), endMs: at(0, 23) },
    { periodS: 3600, startMs: at(0, 23), endMs: at(1) },
    { periodS: 86_400, startMs: at(1), endMs: at(9) },
    { periodS: 3600, startMs: at(9), endMs: at(9, 5) },
    { periodS: 60, startMs: at(9, 5), endMs: at(9, 6) },
    { periodS: 3600, startMs: at(9, 6), endMs: at(10) },
    { periodS: 86_400, startMs: at(10), endMs: at(30) },
    { periodS: 3600, startMs: at(30), endMs: at(30, 1) },
    { periodS: 60, startMs: at(30, 1), endMs: at(30, 2, 30) },
  ]);
});

test("a range is widened to whole units, and no further", () => {
  const odd = { startMs: at(0, 1, 2) + 1, endMs: at(0, 3, 4) + 1 };
  assert.deepEqual(widen(odd, minuteMs), { startMs: at(0, 1, 2), endMs: at(0, 3, 5) });
  assert.deepEqual(widen(odd, hourMs), { startMs: at(0, 1), endMs: at(0, 4) });
  const whole = { startMs: at(0, 1), endMs: at(0, 4) };
  assert.deepEqual(widen(whole, hourMs), whole);
});
