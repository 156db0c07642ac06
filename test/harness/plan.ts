/** What statements read, by Postgres's own account. */
import { drizzle } from "drizzle-orm/postgres-js";
import type postgres from "postgres";
import type { Database } from "../../src/db/client.ts";

/** A node of a plan, of what EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) gives. Its counts are of one loop, on average. */
interface Plan {
  "Node Type": string;
  /** Where the node reads a table. */
  "Relation Name"?: string;
  "Actual Rows": number;
  "Actual Loops": number;
  "Rows Removed by Filter"?: number;
  "Rows Removed by Index Recheck"?: number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: Plan[];
}

export interface Scan {
  /** A partition's own name. */
  readonly table: string;
  /** Looked at, whether they came out or not. */
  readonly rows: number;
  /** How often it was begun. */
  readonly loops: number;
}

export interface Cost {
  readonly statement: string;
  /** Of tables. Those that were planned and never begun are left out. */
  readonly scans: readonly Scan[];
  /** Of all of them. */
  readonly rows: number;
  /** 8 kB each. */
  readonly pages: number;
  /** The types of the plan's nodes. */
  readonly nodes: ReadonlySet<string>;
}

/**
 * Lets some code read from the database, and gives what each of its statements costs,
 * which are run once more for it, in one transaction and under the settings that the
 * code made.
 */
export async function costsOf(
  client: postgres.Sql,
  read: (db: Database) => Promise<unknown>,
): Promise<Cost[]> {
  const statements: [text: string, params: unknown[]][] = [];
  const logger = { logQuery: (text: string, params: unknown[]) => void statements.push([text, params]) };
  await read(drizzle(client, { logger }));
  const costs: Cost[] = [];
  await client.begin(async (tx) => {
    for (const [text, params] of statements) {
      if (/\bset_config\(/.test(text)) await tx.unsafe(text, params as never[]);
      else if (/^\s*(select|with)\b/i.test(text)) {
        const [row] = await tx.unsafe(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`, params as never[]);
        costs.push(costOf(text, row?.["QUERY PLAN"][0].Plan));
      }
    }
  });
  return costs;
}

function costOf(statement: string, top: Plan): Cost {
  const scans: Scan[] = [];
  const nodes = new Set<string>();
  const walk = (plan: Plan) => {
    nodes.add(plan["Node Type"]);
    const table = plan["Relation Name"];
    const loops = plan["Actual Loops"];
    if (table !== undefined && loops > 0) {
      scans.push({ table, loops, rows: Math.round(Math.max(rowsRead(plan), bitmapRows(plan))) });
    }
    plan.Plans?.forEach(walk);
  };
  walk(top);
  const pages = top["Shared Hit Blocks"] + top["Shared Read Blocks"];
  return { statement, scans, rows: rowsOf(scans), pages, nodes };
}

function rowsRead(plan: Plan): number {
  const removed = (plan["Rows Removed by Filter"] ?? 0) + (plan["Rows Removed by Index Recheck"] ?? 0);
  return (plan["Actual Rows"] + removed) * plan["Actual Loops"];
}

/** What the bitmaps of a scan hold that are laid over each other: of an AND, more than the scan then reads. */
function bitmapRows({ Plans = [] }: Plan): number {
  return Plans.filter((plan) => plan["Node Type"].startsWith("Bitmap")).reduce(
    (sum, plan) => sum + (plan.Plans === undefined ? rowsRead(plan) : bitmapRows(plan)),
    0,
  );
}

/** Of some scans, the rows of tables whose name matches. */
export function rowsOf(scans: readonly Scan[], table = /./): number {
  return scans.filter((scan) => table.test(scan.table)).reduce((sum, { rows }) => sum + rows, 0);
}
