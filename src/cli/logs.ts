/** `latchkey logs`: what was called, as a table, as CSV or as JSON, and as it happens. */
import { toJsonString } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import {
  ExportFormat,
  type RequestLog,
  RequestLogSchema,
  RequestLogService,
} from "../gen/latchkey/v1/request_log_service_pb.js";
import { DenialReasonSchema } from "../gen/latchkey/v1/verdict_pb.js";
import { type Cli, usageError } from "./command.ts";
import { limitOption, printList } from "./list.ts";
import { csvPrinter } from "./log-csv.ts";
import { type LogFilterOptions, logFilter, methodText, withLogFilter } from "./log-filter.ts";
import { followLogs, type LogFilter } from "./logs-follow.ts";
import { type Column, createTable, enumText, escapeControls } from "./output.ts";
import { connectRemote, createRemoteCommand, type Remote } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { plainLines } from "./terminal.ts";
import { formatDuration, formatTime } from "./times.ts";

interface LogsOptions extends RemoteOptions, LogFilterOptions {
  readonly follow?: true;
  readonly limit?: number;
  readonly json?: true;
  readonly csv?: true;
}

export const logColumns: readonly Column<RequestLog>[] = [
  { title: "TIME", cell: ({ time }) => formatTime(time, true) },
  { title: "METHOD", cell: ({ service, method }) => methodText(service, method) },
  { title: "CODE", cell: ({ code }) => code },
  { title: "DURATION", cell: ({ duration }) => formatDuration(duration), right: true },
  { title: "USER", cell: ({ userId }) => (userId === 0n ? "" : String(userId)), right: true },
  { title: "KEY", cell: ({ apiKeyId }) => apiKeyId },
  { title: "PROTOCOL", cell: ({ protocol }) => protocol },
  { title: "FROM", cell: ({ peerAddress }) => peerAddress },
  {
    title: "ERROR",
    cell: ({ denialReason, errorMessage }) =>
      [enumText(DenialReasonSchema, denialReason), errorMessage].filter(Boolean).join(": "),
  },
];

export function logsCommand(cli: Cli): Command {
  const command = withLogFilter(
    createRemoteCommand(
      "logs",
      "Show the request log, the newest first: a table of the newest 100 calls, or as CSV or JSON all that match. " +
        "Staff see everyone's calls, others their own.",
      [
        "latchkey logs --since 1h --errors",
        "latchkey logs --method api.users.UserService/GetUser --min-duration 500ms",
        "latchkey logs --since 24h --csv > calls.csv",
        "latchkey logs --follow --user 2",
      ],
    ),
  )
    .option(
      "--follow",
      "go on with calls as they happen, of all instances; with --since, after those since then",
    )
    .addOption(limitOption())
    .addOption(new Option("--json", "one JSON object a line").conflicts("csv"))
    .option("--csv", "CSV with a line of names");
  return command.action(async (options: LogsOptions) => {
    if (options.follow && (options.until !== undefined || options.limit !== undefined)) {
      throw usageError(command, "--follow has no end: it does not go with --until and --limit");
    }
    const remote = await connectRemote(cli, options);
    const filter = await logFilter(remote, options);
    if (options.follow) {
      return followLogs(cli, remote, filter, options.since, rowPrinter(cli, options));
    }
    if (options.json || options.csv) return exportLogs(cli, remote, filter, options);
    let isIncomplete = false;
    await printList(
      cli,
      { limit: options.limit ?? 100 },
      {
        schema: RequestLogSchema,
        columns: logColumns,
        mostOfPage: 1000,
        read: async (pageSize, pageToken) => {
          const page = await remote.call("reading the log", () =>
            remote.client(RequestLogService).listRequestLogs({ filter, pageSize, pageToken }),
          );
          isIncomplete ||= page.incomplete;
          return { rows: page.requestLogs, nextPageToken: page.nextPageToken };
        },
      },
    );
    if (isIncomplete) {
      cli.terminal.note(
        "Calls of the last moments are missing, as more came than are laid out at once: try again.",
      );
    }
  });
}

/** What prints rows as they come. */
function rowPrinter(cli: Cli, options: LogsOptions): (rows: readonly RequestLog[]) => Promise<void> {
  const { terminal } = cli;
  if (options.json) {
    // As the server's export has it.
    const line = (row: RequestLog) => `${escapeControls(toJsonString(RequestLogSchema, row))}\n`;
    return (rows) => terminal.print(rows.map(line).join(""));
  }
  const lines = options.csv ? csvPrinter() : createTable(terminal, logColumns).lines;
  return (rows) => terminal.print(lines(rows));
}

/** The file that the server makes, as it comes. */
async function exportLogs(
  { terminal }: Cli,
  remote: Remote,
  filter: LogFilter,
  options: LogsOptions,
): Promise<void> {
  const format = options.csv ? ExportFormat.CSV : ExportFormat.NDJSON;
  const decoder = new TextDecoder();
  const write = async (tell: (what: string) => void) => {
    let bytes = 0;
    const file = remote
      .client(RequestLogService)
      // A file has no time in which it must end.
      .exportRequestLogs({ filter, format, limit: BigInt(options.limit ?? 0) }, { timeoutMs: 0 });
    for await (const { data } of file) {
      bytes += data.length;
      tell(`exporting the log: ${(bytes / 1e6).toFixed(1)} MB`);
      const text = decoder.decode(data, { stream: true });
      await terminal.print(terminal.isOutputTerminal ? plainLines(text) : text);
    }
  };
  // Where the rows themselves can be seen, they tell enough.
  if (terminal.isOutputTerminal) await remote.attempt(() => write(() => {}));
  else await remote.call("exporting the log", write);
}
