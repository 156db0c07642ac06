/** `latchkey stats`: how much, how fast, what failed. */
import { durationFromMs, type Timestamp, timestampNow } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import {
  GetBreakdownResponseSchema,
  GetOverviewResponseSchema,
  GetTimeSeriesResponseSchema,
  type Stats,
  StatsDimension,
  StatsDimensionSchema,
  type StatsGroup,
  StatsService,
} from "../gen/latchkey/v1/stats_service_pb.js";
import { DenialReasonSchema } from "../gen/latchkey/v1/verdict_pb.js";
import { type Cli, usageError } from "./command.ts";
import { jsonOption, parseCount } from "./list.ts";
import { type CallFilterOptions, callFilter, methodText, timeOption, withCallFilter } from "./log-filter.ts";
import { type Column, createTable, details, enumText, enumTexts, enumValue, json } from "./output.ts";
import { connectRemote, createRemoteCommand } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { formatDuration, formatTime, parseDuration, parsePast } from "./times.ts";

interface StatsOptions extends RemoteOptions, CallFilterOptions {
  readonly since: Timestamp;
  readonly until?: Timestamp;
  readonly by?: string;
  readonly series?: true;
  readonly step?: number;
  readonly limit?: number;
  readonly json?: true;
}

/** A row of any of the tables. */
interface Row {
  readonly label: string;
  readonly time?: Timestamp | undefined;
  readonly stats: Stats;
}

const statsColumns: readonly Column<Row>[] = [
  { title: "REQUESTS", cell: ({ stats }) => String(stats.requests), right: true },
  { title: "ERRORS", cell: ({ stats }) => String(stats.errors), right: true },
  { title: "DENIALS", cell: ({ stats }) => String(stats.denials), right: true },
  { title: "MEAN", cell: ({ stats }) => formatDuration(stats.meanDuration), right: true },
  { title: "P50", cell: ({ stats }) => formatDuration(stats.p50), right: true },
  { title: "P95", cell: ({ stats }) => formatDuration(stats.p95), right: true },
  { title: "P99", cell: ({ stats }) => formatDuration(stats.p99), right: true },
];

export function statsCommand(cli: Cli): Command {
  const command = withCallFilter(
    createRemoteCommand(
      "stats",
      "Sum calls up: altogether, by service, method, code, denial reason, key or user, or step by step. " +
        "Staff see everyone's, others their own.",
      [
        "latchkey stats --since 7d",
        "latchkey stats --by method --limit 5",
        "latchkey stats --series --step 1h --json",
      ],
    ),
  )
    .addOption(timeOption("--since <time>", "from then on").default(parsePast("24h"), "24h"))
    .addOption(timeOption("--until <time>", "before then").default(undefined, "now"))
    .addOption(new Option("--by <dimension>", "divided by").choices(enumTexts(StatsDimensionSchema)))
    .option("--series", "step by step")
    .addOption(
      new Option("--step <duration>", "with --series: whole minutes (default: as fits)").argParser(
        parseDuration,
      ),
    )
    .addOption(
      new Option("--limit <count>", "with --by: at most so many (default: 10)").argParser(parseCount),
    )
    .addOption(jsonOption("the answer as one JSON object"));
  return command.action(async (options: StatsOptions) => {
    if (options.step !== undefined && !options.series) throw usageError(command, "--step goes with --series");
    const remote = await connectRemote(cli, options);
    const stats = remote.client(StatsService);
    const range = {
      filter: await callFilter(remote, options),
      startTime: options.since,
      endTime: options.until ?? timestampNow(),
    };
    const groupBy = enumValue(StatsDimensionSchema, options.by) as StatsDimension;
    const limit = options.limit ?? 0;
    const call = <T>(work: () => Promise<T>) => remote.call("summing calls up", work);
    const title = (options.by ?? "").toUpperCase().replaceAll("-", " ");
    const grouped: Column<Row>[] = options.by === undefined ? [] : [{ title, cell: ({ label }) => label }];

    if (options.series) {
      const step = options.step === undefined ? {} : { step: durationFromMs(options.step) };
      const answer = await call(() => stats.getTimeSeries({ ...range, ...step, groupBy, limit }));
      if (options.json) return cli.terminal.print(json(GetTimeSeriesResponseSchema, answer));
      const rows = answer.series.flatMap(({ group, points }) =>
        points.map((stats, i) => ({ label: labelOf(groupBy, group), time: answer.times[i], stats })),
      );
      const timed: Column<Row> = { title: "FROM", cell: ({ time }) => formatTime(time) };
      return cli.terminal.print(createTable(cli.terminal, [...grouped, timed, ...statsColumns]).lines(rows));
    }
    if (options.by !== undefined) {
      const answer = await call(() => stats.getBreakdown({ ...range, groupBy, limit }));
      if (options.json) return cli.terminal.print(json(GetBreakdownResponseSchema, answer));
      const rows = answer.groups.flatMap(({ group, stats }) =>
        stats === undefined ? [] : [{ label: labelOf(groupBy, group), stats }],
      );
      if (!answer.complete) cli.terminal.note("Others that have nearly as many may be missing.");
      return cli.terminal.print(createTable(cli.terminal, [...grouped, ...statsColumns]).lines(rows));
    }
    const answer = await call(() => stats.getOverview(range));
    if (options.json) return cli.terminal.print(json(GetOverviewResponseSchema, answer));
    await cli.terminal.print(
      details(cli.terminal, [
        ["from", formatTime(answer.startTime)],
        ["to", formatTime(answer.endTime)],
        ...(answer.stats === undefined ? [] : overview(answer.stats)),
      ]),
    );
  });
}

function overview(stats: Stats): [string, string][] {
  return [
    ["requests", String(stats.requests)],
    ["errors", `${stats.errors} (${(stats.errorRate * 100).toFixed(1)} %)`],
    ["denials", String(stats.denials)],
    ["mean", formatDuration(stats.meanDuration)],
    ["p50", formatDuration(stats.p50)],
    ["p95", formatDuration(stats.p95)],
    ["p99", formatDuration(stats.p99)],
    ["received", `${stats.requestBytes} bytes`],
    ["sent", `${stats.responseBytes} bytes`],
  ];
}

function labelOf(dimension: StatsDimension, group: StatsGroup | undefined): string {
  if (group === undefined) return "";
  switch (dimension) {
    case StatsDimension.SERVICE:
      return group.service;
    case StatsDimension.METHOD:
      return methodText(group.service, group.method);
    case StatsDimension.CODE:
      return group.code;
    case StatsDimension.DENIAL_REASON:
      return enumText(DenialReasonSchema, group.denialReason) || "not refused";
    case StatsDimension.KEY:
      return group.apiKeyId || "no key";
    case StatsDimension.USER:
      return group.userId === 0n ? "nobody" : String(group.userId);
    default:
      return "";
  }
}
