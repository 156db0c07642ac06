/** What counts as wrong, and what as met. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readOptions } from "./bench-options.ts";
import { createResults } from "./results.ts";
import { figure, table } from "./table.ts";
import { disagreement } from "./tally.ts";
import { findTargets, isMet, type Target } from "./targets.ts";

test("what was counted is what was answered, to the call", () => {
  const calls = { answered: 100, begun: 100 };
  assert.equal(disagreement(1, calls, { uses: 100, rows: 100, allRows: 100 }), undefined);
  for (const counted of [
    { uses: 99, rows: 100, allRows: 100 },
    { uses: 100, rows: 99, allRows: 100 },
    { uses: 101, rows: 100, allRows: 100 },
    { uses: 100, rows: 101, allRows: 101 },
    // Answered with errors, though the load took them for ok.
    { uses: 100, rows: 0, allRows: 100 },
  ]) {
    assert.match(disagreement(1, calls, counted) ?? "", /^answered 100 of 100 calls, counted/);
  }
});

test("rows that were dropped are missing, and no call of theirs", () => {
  const calls = { answered: 100, begun: 100 };
  assert.equal(disagreement(1, calls, { uses: 100, rows: 90, allRows: 90 }), undefined);
  assert.match(disagreement(1, calls, { uses: 90, rows: 90, allRows: 90 }) ?? "", /counted 90 uses/);
});

test("calls that were not answered may be counted or not", () => {
  const calls = { answered: 100, begun: 110 };
  assert.equal(disagreement(1, calls, { uses: 100, rows: 100, allRows: 110 }), undefined);
  assert.equal(disagreement(1, calls, { uses: 110, rows: 110, allRows: 110 }), undefined);
  assert.match(disagreement(1, calls, { uses: 111, rows: 110, allRows: 110 }) ?? "", /100 of 110/);
});

test("who is to count nothing counts nothing", () => {
  const calls = { answered: 100, begun: 100 };
  assert.equal(disagreement(0, calls, { uses: 0, rows: 0, allRows: 0 }), undefined);
  assert.match(disagreement(0, calls, { uses: 0, rows: 0, allRows: 1 }) ?? "", /counted 0 uses and 1 rows/);
});

test("a target is met at its bound, and neither met nor missed where nothing was measured", () => {
  const target = (direction: Target["direction"], measured: number) =>
    isMet({ what: "", bound: 6, direction, measured });
  assert.deepEqual([target("at least", 6), target("at least", 5.99)], [true, false]);
  assert.deepEqual([target("at most", 6), target("at most", 6.01)], [true, false]);
  assert.equal(target("at least", Number.NaN), undefined);
});

test("targets are ratios of the rounds", () => {
  const results = createResults();
  const add = (section: string, subject: string, variant: string, values: Record<string, number>) =>
    results.add({ section, subject, variant, round: 1, values });
  add("grpc", "stock", "10 x 10", { perS: 1000 });
  add("grpc", "off", "10 x 10", { perS: 8000, p50Ms: 4 });
  add("grpc", "batched", "10 x 10", { perS: 7000 });
  add("grpc", "batched", "100 x 100", { perS: 3500 });
  add("grpc", "strict", "10 x 10", { perS: 3000, p50Ms: 9 });
  add("commit", "database", "one row", { p50Ms: 2 });
  add("verdicts", "latchkey", "1,000 keys", { perS: 500_000 });
  add("verdicts", "latchkey", "2,000 keys", { perS: 400_000 });
  add("verdicts", "better-auth", "1,000 keys", { perS: 500 });
  const found = new Map(findTargets(results, 2000).map((target) => [target.what, target]));
  const expect = (what: string, measured: number, met: boolean | undefined) => {
    const target = found.get(what);
    assert.ok(target, `there is no target ${what}`);
    assert.deepEqual([target.measured, isMet(target)], [measured, met], what);
  };
  expect("grpc, 10 x 10: batched × stock", 7, true);
  expect("grpc, 10 x 10: batched × off", 0.875, false);
  expect("grpc, 100 x 100: batched × its best", 0.5, false);
  expect("grpc, 10 x 10: strict × batched", 3 / 7, false);
  const p50 = "grpc, 10 x 10: p50 of strict, ms, against 2 × commit + p50 of off";
  expect(p50, 9, false);
  assert.equal(found.get(p50)?.bound, 8);
  expect("verdicts × better-auth", 1000, true);
  expect("a verdict's cost with 2,000 keys × that with 1,000", 1.25, false);
  expect("grpc, 1 x 32: batched × stock", Number.NaN, undefined);
  expect("log rows/s", Number.NaN, undefined);
});

test("numbers have three figures, or all before the point", () => {
  assert.deepEqual([12_345.6, 123.4, 1.2345, 0.01234, 0, Number.NaN].map(figure), [
    ...["12,346", "123", "1.23", "0.0123", "0.0000", "–"],
  ]);
  assert.equal(table(["a", "b"], [["x", "1"]]), "| a | b |\n|---|--:|\n| x | 1 |");
});

test("the command line refuses what it does not know, and says what there is", () => {
  const options = readOptions(["--rounds", "3", "--only", "grpc,start", "--peers", "stock,batched"]);
  assert.deepEqual(
    [options?.rounds, options?.only, options?.peers, options?.seconds],
    [3, ["grpc", "start"], ["stock", "batched"], 1.2],
  );
  assert.equal(readOptions(["--help"]), undefined);
  for (const [args, message] of [
    [["--rounds", "0"], /--rounds takes/],
    [["--seconds", "x"], /--seconds takes/],
    [["--keys", "10"], /--keys takes/],
    [["--only", "grcp"], /--only: there is no grcp; there are grpc, json/],
    [["--peers", ""], /--peers: there is no empty name/],
    [["--fast"], /--fast/],
  ] as const) {
    assert.throws(() => readOptions([...args]), message);
  }
});
