/** What statistics of the whole range are asked for, and how many rows each may read. */
import { sql } from "drizzle-orm";
import type { Database } from "../../src/db/client.ts";
import { keyRollups, methodRollups } from "../../src/db/schema.ts";
import { readsTops } from "../../src/usage/busiest.ts";
import { readFolded, topsKept } from "../../src/usage/fold-store.ts";
import { dayMs, decompose, hourMs, minuteMs, type Piece, widen } from "../../src/usage/range.ts";
import { rollupsOf } from "../../src/usage/rollup-sql.ts";
import { createStatsStore, type Dimension, type StatsFilter } from "../../src/usage/stats-store.ts";
import type { MadeData } from "./database.ts";
import { keyId, methods, services, userOf } from "./made-rows.ts";
import type { Reading } from "./measure.ts";

const limit = 10;
/** Of 30 days. A step shorter than an hour is refused of so long a range. */
const stepsMs = [hourMs, 6 * hourMs, dayMs];
const dimensions = ["service", "method", "code", "denialReason"] satisfies Dimension[];
const noneOfLog = /^request_logs/;
const noneOfKeys = /^(request_logs|key_rollups|rollup_tops)/;

export async function* statsReadings(db: Database, made: MadeData): AsyncGenerator<Reading> {
  const range = widen({ startMs: made.startMs, endMs: made.endMs }, minuteMs);
  const folded = await readFolded(db, range);
  const pieces = decompose(range, folded);
  for (const [whose, filter] of await filtersOf(db, made)) {
    const outcomes = await countOutcomes(db, filter);
    const hasKeys = filter.apiKeyId !== undefined || filter.userId !== undefined;
    const without = hasKeys ? noneOfLog : noneOfKeys;
    const of = (what: string, mostRows: number, read: Reading["read"]): Reading => ({
      what: `${what}, ${whose}`,
      mostRows,
      without,
      read,
    });

    yield of("overview", count(pieces) * outcomes, async (on) =>
      (await createStatsStore(on).overview(filter, range)) === undefined ? 0 : 1,
    );
    for (const stepMs of stepsMs) {
      const steps = widen(range, stepMs);
      const coarsestS = (stepMs % dayMs === 0 ? dayMs : hourMs) / 1000;
      const most = count(decompose(steps, folded, coarsestS)) * outcomes;
      for (const by of hasKeys ? [undefined] : [undefined, "service" as const, "method" as const]) {
        const what = `series by ${stepMs / hourMs} h${by === undefined ? "" : ` and ${by}`}`;
        yield of(what, (by === undefined ? 1 : 2) * most, async (on) => {
          const series = await createStatsStore(on).timeSeries(filter, steps, { stepMs, by, limit });
          return series.reduce((sum, one) => sum + one.steps.size, 0);
        });
      }
    }
    const breakdown = (by: Dimension) => async (on: Database) =>
      (await createStatsStore(on).breakdown(filter, range, { by, limit })).groups.length;
    for (const by of dimensions) yield of(`by ${by}`, 2 * count(pieces) * outcomes, breakdown(by));
    for (const by of ["key", "user"] as const) {
      if (!readsTops(filter, range)) yield of(`by ${by}`, 2 * count(pieces) * outcomes, breakdown(by));
      else {
        const hours = widen(range, hourMs);
        yield {
          what: `by ${by}, ${whose}`,
          mostRows: await busiestRows(db, by, decompose(hours, folded), Object.keys(filter).length > 0),
          without: noneOfLog,
          read: async (on) =>
            (await createStatsStore(on).breakdown(filter, hours, { by, limit })).groups.length,
        };
      }
    }
  }
}

async function filtersOf(db: Database, made: MadeData): Promise<[string, StatsFilter][]> {
  const number = (n: number) => sql.raw(String(Math.ceil(n)));
  const [row] = await db.execute<Record<"busy" | "common" | "owner" | "other", string>>(sql`
    SELECT ${keyId(number(1))} AS busy, ${keyId(number(made.keys / 50))} AS common,
      ${userOf(number(1), made)} AS owner, ${userOf(number(made.keys / 50), made)} AS other`);
  return [
    ["everything", {}],
    ["a service", { service: services[0] }],
    ["a method", { service: services[0], method: methods[0] }],
    ["a code", { code: 5 }],
    ["the busiest key", { apiKeyId: row?.busy }],
    ["a key of few calls", { apiKeyId: row?.common }],
    ["the busiest user", { userId: BigInt(row?.owner ?? 0) }],
    ["a user", { userId: BigInt(row?.other ?? 0) }],
  ];
}

/** Buckets of some pieces. */
function count(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { startMs, endMs, periodS }) => sum + (endMs - startMs) / (periodS * 1000), 0);
}

/**
 * How many rollups a bucket has at most: combinations of method, code and denial reason; of a
 * key or user, with its keys. A service, method or code narrows nothing down for certain:
 * in an index they come after the time.
 */
async function countOutcomes(db: Database, { apiKeyId, userId }: StatsFilter): Promise<number> {
  const outcomes =
    apiKeyId !== undefined
      ? sql`api_key_id, service, method, code, denial_reason FROM ${keyRollups} WHERE api_key_id = ${apiKeyId} AND`
      : userId !== undefined
        ? sql`api_key_id, service, method, code, denial_reason FROM ${keyRollups} WHERE user_id = ${String(userId)} AND`
        : sql`service, method, code, denial_reason FROM ${methodRollups} WHERE`;
  const [row] = await db.execute<{ n: string }>(
    sql`SELECT count(*) AS n FROM (SELECT DISTINCT ${outcomes} period_s >= 3600) AS outcome`,
  );
  return Number(row?.n);
}

/**
 * Rows that the busiest keys or users may be found with: the lists; three times the hours
 * and minutes at both ends, of everyone; and twice the days of the candidates, who are 30,
 * or 500 under a filter: here, of the 30 or 500 who have the most rollups.
 */
async function busiestRows(
  db: Database,
  by: "key" | "user",
  pieces: readonly Piece[],
  isFiltered: boolean,
): Promise<number> {
  const id = sql.raw(by === "key" ? "api_key_id" : "user_id");
  const isDays = ({ periodS }: Piece) => periodS === dayMs / 1000;
  const days = rollupsOf(keyRollups, pieces.filter(isDays));
  const ends = rollupsOf(
    keyRollups,
    pieces.filter((piece) => !isDays(piece)),
  );
  const candidates = isFiltered ? 500 : 3 * limit;
  const [row] = await db.execute<{ ends: string; days: string }>(sql`
    SELECT (SELECT count(*) FROM (${ends}) AS rollup) AS ends, (
      SELECT coalesce(sum(n), 0) FROM (
        SELECT count(*) AS n FROM (${days}) AS rollup GROUP BY ${id} ORDER BY n DESC LIMIT ${candidates}
      ) AS candidate
    ) AS days`);
  const lists = count(pieces.filter(({ periodS }) => periodS > minuteMs / 1000)) * topsKept;
  return lists + 3 * Number(row?.ends) + 2 * Number(row?.days);
}
