/** Measures one reading: what its statements read, how long it takes, and whether that is within its bound. */
import type postgres from "postgres";
import { type Database, database } from "../../src/db/client.ts";
import { costsOf, type Scan } from "../harness/plan.ts";
import { say } from "./database.ts";

export interface Reading {
  readonly what: string;
  /** Returns how many rows or groups came out. */
  readonly read: (db: Database) => Promise<number>;
  /** Rows that may be looked at. */
  readonly mostRows: number;
  /** Tables that must not be read at all. */
  readonly without?: RegExp;
  /** A remark for the table. */
  readonly note?: string;
}

/** Runs after the first one. */
const warmRuns = 7;

/** Measures, prints a line of the table, and returns what is wrong; undefined: nothing. */
export async function measure(client: postgres.Sql, reading: Reading): Promise<string | undefined> {
  const db = database(client);
  let shown = 0;
  const times: number[] = [];
  for (let run = 0; run <= warmRuns; run++) {
    // What takes seconds is not run so often.
    if (run > 2 && (times[1] ?? 0) > 3000) break;
    const began = performance.now();
    shown = await reading.read(db);
    times.push(performance.now() - began);
  }
  const [first = 0, ...warm] = times;
  const median = warm.sort((a, b) => a - b)[Math.floor(warm.length / 2)] ?? 0;
  const costs = await costsOf(client, reading.read);
  const scans = costs.flatMap((cost) => cost.scans);
  const rows = costs.reduce((sum, cost) => sum + cost.rows, 0);
  const pages = costs.reduce((sum, cost) => sum + cost.pages, 0);
  const { what, mostRows, note = "" } = reading;
  const cells = [rows, mostRows, partitionsOf(scans), pages, shown].map((n) => n.toLocaleString("en"));
  say(`| ${[what, ...cells, median.toFixed(1), first.toFixed(1), note].join(" | ")} |`);

  if (rows > mostRows) return `${what} reads ${rows} rows, of at most ${mostRows}`;
  const read = reading.without && scans.find(({ table }) => reading.without?.test(table));
  if (read) return `${what} reads ${read.table}`;
  // Index entries that a scan passes over are no rows, but they are pages: a descent and the row for each.
  const begun = scans.reduce((sum, { loops }) => sum + loops, 0);
  const mostPages = 2 * mostRows + 5 * begun + 16;
  if (pages > mostPages) return `${what} reads ${pages} pages, of at most ${mostPages}`;
  return undefined;
}

export function sayHeader(): void {
  say("| what | rows read | bound | partitions | pages | shown | ms | first ms | |");
  say("|---|---|---|---|---|---|---|---|---|");
}

function partitionsOf(scans: readonly Scan[]): number {
  return new Set(scans.map(({ table }) => table)).size;
}
