/** What h2load says is read as it means it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { answeredOk, argumentsFor, parseLog, parseSummary, poisson } from "./h2load.ts";

const head = `starting benchmark...
spawning thread #0: 10 total client(s). 20000 total requests
Application protocol: h2c
progress: 10% done
`;
const foot = `                     min         max         mean         sd        +/- sd
time for request:      286us     28.07ms      2.48ms      2.54ms    91.31%
time for connect:      102us       480us       254us       110us    80.00%
req/s           :    3853.18     4055.78     3903.77       69.96    80.00%
`;

/** As h2load 1.52 prints it. */
function printed(lines: { time: string; requests: string; codes: string; data: string }): string {
  return `${head}
finished in ${lines.time}, 38497.15 req/s, 1.76MB/s
requests: ${lines.requests}
status codes: ${lines.codes}
traffic: 938.48KB (961000) total, 59.16KB (60580) headers (space savings 95.73%), ${lines.data} data
${foot}`;
}

const allOk = printed({
  time: "519.52ms",
  requests: "20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout",
  codes: "20000 2xx, 0 3xx, 0 4xx, 0 5xx",
  data: "332.03KB (340000)",
});

test("a summary is read", () => {
  assert.deepEqual(parseSummary(allOk), {
    ...{ seconds: 0.51952, total: 20_000, started: 20_000, succeeded: 20_000 },
    ...{ status2xx: 20_000, dataBytes: 340_000 },
  });
});

for (const [time, seconds] of [
  ["337us", 0.000337],
  ["519.52ms", 0.51952],
  ["2.03s", 2.03],
  ["1m", 60],
] as const) {
  test(`${time} are ${seconds} s`, () => {
    assert.ok(Math.abs(parseSummary(allOk.replace("519.52ms", time)).seconds - seconds) < 1e-9);
  });
}

test("what is no summary is refused, with what was printed", () => {
  assert.throws(() => parseSummary("h2load: unrecognized option"), /unrecognized option/);
});

test("answers with status 200 and no message, as gRPC's errors are, are not ok", () => {
  const summary = parseSummary(allOk.replace("332.03KB (340000)", "331.97KB (339915)"));
  assert.equal(answeredOk(parseSummary(allOk), 17), 20_000);
  assert.equal(answeredOk(summary, 17), 19_995);
});

test("answers with another status are not ok, however long they are", () => {
  const summary = parseSummary(
    printed({
      time: "1s",
      requests: "100 total, 100 started, 100 done, 40 succeeded, 60 failed, 0 errored, 0 timeout",
      codes: "40 2xx, 0 3xx, 60 4xx, 0 5xx",
      data: "9.77KB (10000)",
    }),
  );
  assert.equal(answeredOk(summary, 17), 40);
});

test("where nothing is reached, nothing is ok", () => {
  const summary = parseSummary(
    printed({
      time: "337us",
      requests: "20000 total, 0 started, 0 done, 0 succeeded, 20000 failed, 20000 errored, 0 timeout",
      codes: "0 2xx, 0 3xx, 0 4xx, 0 5xx",
      data: "0B (0)",
    }),
  );
  assert.deepEqual([summary.total, summary.started, answeredOk(summary, 17)], [20_000, 0, 0]);
});

test("a log tells latencies, and the time from the first call to the last answer", () => {
  const { latenciesMs, seconds } = parseLog(
    ["1000000\t200\t500", "1000100\t200\t2000", "1000050\t-1\t999999", "1000200\t200\t1000", ""].join("\n"),
  );
  assert.deepEqual([...latenciesMs], [0.5, 2, 1]);
  assert.equal(seconds, 0.0021);
  assert.deepEqual(parseLog(""), { latenciesMs: new Float64Array(0), seconds: 0 });
});

test("all peers get the same request", () => {
  assert.deepEqual(argumentsFor({ token: "t" }, "body", "log"), [
    ...["-d", "body", "--log-file", "log"],
    ...["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "x-api-key: t"],
  ]);
});

test("calls of an open loop come at random, in order, so many a second", () => {
  const schedule = poisson(1000, 20);
  assert.ok(Math.abs(schedule.length / 20_000 - 1) < 0.05, `${schedule.length} calls in 20 s`);
  assert.deepEqual(schedule, schedule.toSorted());
  assert.ok((schedule.at(-1) ?? 0) <= 20_000);
  // Of arrivals that know nothing of each other, one in e gaps is longer than the mean.
  const long = schedule.filter((atMs, i) => atMs - (schedule[i - 1] ?? 0) > 1).length;
  assert.ok(Math.abs(long / schedule.length - 1 / Math.E) < 0.02, `${long} gaps of ${schedule.length}`);
});
