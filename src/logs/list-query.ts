/** The statement that reads a page of the request log, and how many rows it may look at. */
import { type SQL, sql } from "drizzle-orm";
import { requestLogs } from "../db/schema.ts";
import { conditionOf, type RequestLogFilter } from "./filter.ts";
import { type Instant, rowColumns } from "./row.ts";

/** A row's place in the listing. */
export interface RequestLogCursor {
  readonly time: Instant;
  readonly id: string;
}

/** google.rpc.Code, but for ok. */
const errorCodes = Array.from({ length: 16 }, (_, n) => String(n + 1));

/**
 * The index that a listing walks down, newest first: one of (columns, time, id) at
 * one value of its columns, or at several, whose rows are merged.
 */
export interface Walk {
  /** None: the primary key, that is, every row. */
  readonly columns: readonly string[];
  /** One for each column. Of several values, one is `branch.value`. */
  readonly values: readonly SQL[];
  /** What a partial index asks for, literally. */
  readonly predicate?: SQL;
  /** The conditions that it answers. */
  readonly answers: readonly (keyof RequestLogFilter)[];
  /** The values of `branch.value` and their type; undefined: there is only one walk. */
  readonly branches?: { readonly type: "text" | "smallint"; readonly values: readonly string[] };
}

const branch = sql.raw("branch.value");
/** Every row. */
const wholeLog: Walk = { columns: [], values: [], answers: [] };

/**
 * The index for a filter: the one whose rows are likely the fewest. Where only the
 * service or only the method is asked for, `names` are the other halves that the
 * log has with it; undefined: too many, so all rows are walked.
 */
export function walkOf(filter: RequestLogFilter, names?: readonly string[]): Walk {
  const { traceId, apiKeyId, userId, denialReason, code, service, method } = filter;
  if (traceId !== undefined) return walkOne("traceId", "trace_id", sql`${traceId}::text`);
  if (apiKeyId !== undefined) return walkOne("apiKeyId", "api_key_id", sql`${apiKeyId}::uuid`);
  if (userId !== undefined) return walkOne("userId", "user_id", sql`${String(userId)}::bigint`);
  if (denialReason !== undefined) return walkOne("denialReason", "denial_reason", sql`${denialReason}::text`);
  if (code !== undefined && code !== 0) return walkCodes(sql`${code}::smallint`);
  const columns = ["service", "method"];
  if (service !== undefined && method !== undefined) {
    return { columns, values: [sql`${service}::text`, sql`${method}::text`], answers: ["service", "method"] };
  }
  if (names !== undefined && service !== undefined) {
    const branches = { type: "text", values: names } as const;
    return { columns, values: [sql`${service}::text`, branch], answers: ["service"], branches };
  }
  if (names !== undefined && method !== undefined) {
    const branches = { type: "text", values: names } as const;
    return { columns, values: [branch, sql`${method}::text`], answers: ["method"], branches };
  }
  // Only what failed has an error message.
  if ((filter.errorText !== undefined || filter.errorsOnly) && code === undefined) {
    const branches = { type: "smallint", values: errorCodes } as const;
    return { ...walkCodes(branch), answers: ["errorsOnly"], branches };
  }
  return wholeLog;
}

function walkOne(field: keyof RequestLogFilter, column: string, value: SQL): Walk {
  const predicate = sql.raw(`${column} IS NOT NULL`);
  return { columns: [column], values: [value], predicate, answers: [field] };
}

function walkCodes(value: SQL): Walk {
  return { columns: ["code"], values: [value], predicate: sql.raw("code <> 0"), answers: ["code"] };
}

export interface ListQuery {
  readonly filter: RequestLogFilter;
  readonly walk: Walk;
  /** Rows of a page at most. */
  readonly limit: number;
  readonly after?: RequestLogCursor | undefined;
  /** Rows looked at for one page, where a condition is left that the walk does not answer. */
  readonly scanBudget: number;
}

/**
 * The statement for a page. It reads `limit` rows and one more, which says that
 * others follow. Conditions that the walk does not answer are put to no more than
 * `scanBudget` rows; the last of these comes out in any case, as one that `matches`
 * or not, with `is_last`: from there the next page goes on.
 */
export function listQuery({ filter, walk, limit, after, scanBudget }: ListQuery): SQL {
  const rest = conditionOf(filter, [...walk.answers, "from", "until"]);
  const share = Math.floor(scanBudget / (walk.branches?.values.length || 1));
  const budget = rest === undefined ? limit + 1 : Math.max(1, share);
  const order = descending(walk.branches === undefined ? walk.columns : []);
  return sql`
    SELECT ${rowColumns}, ${rest === undefined ? sql`true` : sql`coalesce(${rest}, false)`} AS matches,
      place = ${budget} AS is_last
    FROM (
      SELECT *, row_number() OVER (ORDER BY ${order}) AS place
      FROM (${candidates(filter, walk, budget, after)}) candidate
    ) placed
    WHERE ${rest ?? sql`true`} OR place = ${budget}
    ORDER BY ${order} LIMIT ${limit + 1}`;
}

/** The newest rows of a walk. Of several branches, so many of each are read, lest one of them hold them all. */
function candidates(filter: RequestLogFilter, walk: Walk, count: number, after?: RequestLogCursor): SQL {
  const { columns, values, predicate, branches } = walk;
  const conditions = bounds(columns, values, filter, after);
  if (predicate !== undefined) conditions.push(predicate);
  const walked = sql`
    SELECT * FROM ${requestLogs}
    WHERE ${conditions.length === 0 ? sql`true` : sql.join(conditions, sql` AND `)}
    ORDER BY ${descending(columns)} LIMIT ${count}`;
  if (branches === undefined) return walked;
  const list = sql`${sql.param([...branches.values])}::text[]::${sql.raw(branches.type)}[]`;
  return sql`
    SELECT walked.* FROM unnest(${list}) AS branch (value), LATERAL (${walked}) walked
    ORDER BY ${descending([])} LIMIT ${count}`;
}

/**
 * Where a walk begins and ends, so that Postgres takes its index in order, whatever
 * its statistics say:
 *
 * - A column equal to a constant would drop out of the order, and the rows come by
 *   the primary key just as well: that reads all that are newer than those of a key
 *   that has not called for long. So it is held between bounds.
 * - Each bound is one comparison of rows. An index scan starts and stops by that; by
 *   a column behind one that is not equal to a constant, it would only leave rows out.
 * - The time alone is repeated to leave out whole days, which a comparison of rows does not.
 */
function bounds(
  columns: readonly string[],
  values: readonly SQL[],
  { from, until }: RequestLogFilter,
  after?: RequestLogCursor,
): SQL[] {
  const names = columns.map((name) => sql.raw(name));
  const found: SQL[] = [];
  const compare = (operator: string, more: readonly [column: string, value: SQL][]) => {
    const left = [...names, ...more.map(([column]) => sql.raw(column))];
    const right = [...values, ...more.map(([, value]) => value)];
    if (left.length === 0) return;
    found.push(sql`(${sql.join(left, sql`, `)}) ${sql.raw(operator)} (${sql.join(right, sql`, `)})`);
  };
  if (from === undefined) compare(">=", []);
  else {
    const time = sql`${from}::timestamptz`;
    compare(">=", [["time", time]]);
    found.push(sql`time >= ${time}`);
  }
  if (after !== undefined && (until === undefined || after.time < until)) {
    const time = sql`${after.time}::timestamptz`;
    compare("<", [
      ["time", time],
      ["id", sql`${after.id}::uuid`],
    ]);
    found.push(sql`time <= ${time}`);
  } else if (until !== undefined) {
    const time = sql`${until}::timestamptz`;
    compare("<", [["time", time]]);
    found.push(sql`time < ${time}`);
  } else compare("<=", []);
  return found;
}

function descending(columns: readonly string[]): SQL {
  return sql.raw([...columns, "time", "id"].map((column) => `${column} DESC`).join(", "));
}
