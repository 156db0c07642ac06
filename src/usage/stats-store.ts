/** Sums over rollups in Postgres, as they are read. No row of the request log is. */
import { and, eq, type SQL, sql } from "drizzle-orm";
import type { Database, Executor } from "../db/client.ts";
import { keyRollups, methodRollups } from "../db/schema.ts";
import { findBusiest, readsTops } from "./busiest.ts";
import { readFolded } from "./fold-store.ts";
import { dayMs, decompose, hourMs, minuteMs, type Piece, type TimeRange } from "./range.ts";
import { columns, rollupsOf, summedRollups } from "./rollup-sql.ts";

export interface StatsFilter {
  readonly userId?: bigint | undefined;
  readonly apiKeyId?: string | undefined;
  readonly service?: string | undefined;
  readonly method?: string | undefined;
  /** google.rpc.Code. */
  readonly code?: number | undefined;
}

export interface Sums {
  readonly requests: bigint;
  readonly errors: bigint;
  readonly denials: bigint;
  readonly durationUs: bigint;
  readonly requestBytes: bigint;
  readonly responseBytes: bigint;
  /** Counts by latency bucket: see `histogram.ts`. */
  readonly latency: readonly number[];
}

/** The columns by whose values sums are divided. */
const columnsOf = {
  service: ["service"],
  method: ["service", "method"],
  code: ["code"],
  denialReason: ["denial_reason"],
  key: ["api_key_id"],
  user: ["user_id"],
} as const;

export type Dimension = keyof typeof columnsOf;

/** The values of those columns: only those of the dimension are set. */
export interface GroupValues {
  readonly service?: string;
  readonly method?: string;
  readonly code?: number;
  /** Empty: not refused. */
  readonly denialReason?: string;
  /** All zeros: signed in otherwise than by a key. */
  readonly apiKeyId?: string;
  readonly userId?: bigint;
}

export interface Group {
  readonly values: GroupValues;
  readonly sums: Sums;
}

export interface Series {
  readonly values: GroupValues;
  /** By the start of the step, in milliseconds since 1970; steps without requests are left out. */
  readonly steps: ReadonlyMap<number, Sums>;
}

/** Ranges are of whole minutes. Each call reads one snapshot: every request counts once. */
export interface StatsStore {
  /** Undefined: there were no requests. */
  overview(filter: StatsFilter, range: TimeRange): Promise<Sums | undefined>;
  /** A series for each value of the dimension, the most requests first, at most `limit`. The range is of whole steps. */
  timeSeries(
    filter: StatsFilter,
    range: TimeRange,
    step: { stepMs: number; by: Dimension | undefined; limit: number },
  ): Promise<Series[]>;
  /** The most requests first. `complete`: nobody who is left out has more. See {@link readsTops}. */
  breakdown(
    filter: StatsFilter,
    range: TimeRange,
    by: { by: Dimension; limit: number },
  ): Promise<{ groups: Group[]; complete: boolean }>;
}

/**
 * For the transaction: the rollups of a few keys are looked up among those of all,
 * however many of them the few have; and Postgres remembers which rows these are. With
 * less memory it would only remember their pages, and read whatever else lies there.
 */
const byIndex: SQL = sql`
  SELECT set_config('enable_seqscan', 'off', true), set_config('work_mem', '32MB', true), set_config('jit', 'off', true)`;

/** The requests of a range that a filter lets through. */
interface Source {
  readonly tx: Executor;
  readonly pieces: readonly Piece[];
  readonly filter: StatsFilter;
}

export function createStatsStore(db: Database): StatsStore {
  /** Runs in one snapshot: what is folded must be as old as what is summed up. */
  function read<T>(
    filter: StatsFilter,
    range: TimeRange,
    run: (source: Source) => Promise<T>,
    coarsestS?: number,
  ): Promise<T> {
    return db.transaction(
      async (tx) => {
        await tx.execute(byIndex);
        return run({ tx, filter, pieces: decompose(range, await readFolded(tx, range), coarsestS) });
      },
      { isolationLevel: "repeatable read", accessMode: "read only" },
    );
  }

  return {
    overview: (filter, range) =>
      read(filter, range, async (source) => {
        const [row] = await source.tx.execute<SumsRow>(summedRollups(rollupsFrom(source, false), []));
        return row && toSums(row);
      }),
    timeSeries(filter, range, { stepMs, by, limit }) {
      const coarsest = [dayMs, hourMs, minuteMs].find((ms) => stepMs % ms === 0) ?? minuteMs;
      return read(
        filter,
        range,
        async (source) => toSeries(await readGroups(source, { by, limit, stepMs }), stepMs),
        coarsest / 1000,
      );
    },
    breakdown: (filter, range, { by, limit }) =>
      read(filter, range, async (source) => {
        if ((by !== "key" && by !== "user") || !readsTops(filter, range)) {
          const rows = await readGroups(source, { by, limit });
          return { groups: rows.map(toGroup), complete: true };
        }
        const isFiltered = [filter.service, filter.method, filter.code].some((value) => value !== undefined);
        const { condition, mostOfOthers } = await findBusiest(source.tx, {
          by,
          limit,
          isFiltered,
          pieces: source.pieces,
        });
        const groups = (await readGroups(source, { by, limit, condition })).map(toGroup);
        const least = groups.length < limit ? 0n : (groups.at(-1)?.sums.requests ?? 0n);
        return { groups, complete: mostOfOthers <= least };
      }),
  };
}

interface Division {
  by: Dimension | undefined;
  /** Groups at most. */
  limit: number;
  /** Divides by time as well. */
  stepMs?: number;
  condition?: SQL;
}

/** The sums of the groups with the most requests, and of their steps; the most requests first. */
async function readGroups(source: Source, { by, limit, stepMs, condition }: Division): Promise<SumsRow[]> {
  const groupColumns = by === undefined ? [] : columnsOf[by];
  const from = rollupsFrom(source, by === "key" || by === "user", condition);
  const step = sql`extract(epoch FROM bucket)::bigint / ${(stepMs ?? minuteMs) / 1000}::bigint AS step`;
  if (by === undefined) {
    return source.tx.execute<SumsRow>(
      summedRollups(sql`SELECT *, ${step} FROM (${from}) AS rollup`, ["step"]),
    );
  }
  const of = columns(groupColumns);
  // Read twice: whose latencies are summed up is known only then, and there may be many more groups.
  return source.tx.execute<SumsRow>(sql`
    WITH rollup AS NOT MATERIALIZED (${from}),
    top AS (
      SELECT ${of}, row_number() OVER (ORDER BY sum(requests) DESC, ${of}) AS rank FROM rollup
      GROUP BY ${of} ORDER BY rank LIMIT ${limit}
    )
    ${summedRollups(
      sql`SELECT *, ${step} FROM rollup JOIN top USING (${of})`,
      stepMs === undefined ? ["rank", ...groupColumns] : ["rank", ...groupColumns, "step"],
    )} ORDER BY rank`);
}

function rollupsFrom({ pieces, filter }: Source, needsKeys: boolean, condition?: SQL): SQL {
  const table =
    needsKeys || filter.userId !== undefined || filter.apiKeyId !== undefined ? keyRollups : methodRollups;
  const is = <T>(column: SQL, value: T | undefined) => (value === undefined ? undefined : eq(column, value));
  const where = and(
    is(sql`user_id`, filter.userId),
    is(sql`api_key_id`, filter.apiKeyId),
    is(sql`service`, filter.service),
    is(sql`method`, filter.method),
    is(sql`code`, filter.code),
    condition,
  );
  return rollupsOf(table, pieces, where);
}

interface SumsRow extends Record<string, unknown> {
  readonly requests: string;
  readonly errors: string;
  readonly denials: string;
  readonly duration_us: string;
  readonly request_bytes: string;
  readonly response_bytes: string;
  readonly latency: readonly (string | number)[];
  /** The number of the step since 1970. */
  readonly step?: string;
  readonly rank?: string;
  readonly service?: string;
  readonly method?: string;
  readonly code?: number;
  readonly denial_reason?: string;
  readonly api_key_id?: string;
  readonly user_id?: string;
}

function toSums(row: SumsRow): Sums {
  return {
    requests: BigInt(row.requests),
    errors: BigInt(row.errors),
    denials: BigInt(row.denials),
    durationUs: BigInt(row.duration_us),
    requestBytes: BigInt(row.request_bytes),
    responseBytes: BigInt(row.response_bytes),
    latency: row.latency.map(Number),
  };
}

function toGroup(row: SumsRow): Group {
  return { values: toValues(row), sums: toSums(row) };
}

function toValues(row: SumsRow): GroupValues {
  return {
    ...(row.service !== undefined && { service: row.service }),
    ...(row.method !== undefined && { method: row.method }),
    ...(row.code !== undefined && { code: row.code }),
    ...(row.denial_reason !== undefined && { denialReason: row.denial_reason }),
    ...(row.api_key_id !== undefined && { apiKeyId: row.api_key_id }),
    ...(row.user_id !== undefined && { userId: BigInt(row.user_id) }),
  };
}

function toSeries(rows: readonly SumsRow[], stepMs: number): Series[] {
  const series = new Map<string | undefined, Series & { steps: Map<number, Sums> }>();
  for (const row of rows) {
    const one = series.get(row.rank) ?? { values: toValues(row), steps: new Map() };
    one.steps.set(Number(row.step) * stepMs, toSums(row));
    series.set(row.rank, one);
  }
  return [...series.values()];
}
