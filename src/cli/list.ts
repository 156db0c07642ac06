/** Listings: page after page, as a table or as JSON, up to as many as were asked for. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Cli } from "./command.ts";
import { type Column, createTable, json } from "./output.ts";

export interface ListOptions {
  readonly json?: true;
  /** 0: all. */
  readonly limit: number;
}

export interface Page<T> {
  readonly rows: readonly T[];
  /** Empty: there is no more. */
  readonly nextPageToken: string;
}

/** Adds --limit and --json. */
export function withListOptions(command: Command): Command {
  return command
    .addOption(limitOption().default(100))
    .addOption(jsonOption("one JSON object a line in place of a table"));
}

export function limitOption(): Option {
  return new Option("--limit <count>", "show at most so many; 0: all").argParser(parseCount);
}

export function jsonOption(description = "one JSON object in place of text"): Option {
  return new Option("--json", description);
}

/** A whole number, 0 or more. */
export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("It takes a whole number, 0 or more.");
  return Number(text);
}

/** Prints the rows of a listing. What is left out is said on standard error. */
export async function printList<D extends DescMessage>(
  { terminal }: Cli,
  options: ListOptions,
  listing: {
    readonly schema: D;
    readonly columns: readonly Column<MessageShape<D>>[];
    /** The most rows that the server gives at once. */
    readonly mostOfPage: number;
    readonly read: (pageSize: number, pageToken: string) => Promise<Page<MessageShape<D>>>;
  },
): Promise<void> {
  const table = createTable(terminal, listing.columns);
  let left = options.limit === 0 ? Number.POSITIVE_INFINITY : options.limit;
  let pageToken = "";
  do {
    const { rows, nextPageToken } = await listing.read(Math.min(left, listing.mostOfPage), pageToken);
    if (options.json) await terminal.print(rows.map((row) => json(listing.schema, row)).join(""));
    // The head of a table comes even where it is empty; a page that is empty has no more to say.
    else if (rows.length > 0 || (pageToken === "" && nextPageToken === ""))
      await terminal.print(table.lines(rows));
    left -= rows.length;
    pageToken = nextPageToken;
  } while (pageToken !== "" && left > 0);
  if (pageToken !== "") terminal.note(`There are more: --limit 0 shows all.`);
}
