/** The request log in Postgres, as it is read. Written by `usage/store.ts`. */
import { type SQL, sql } from "drizzle-orm";
import type { Database, Executor } from "../db/client.ts";
import { requestLogs } from "../db/schema.ts";
import type { RequestLogFilter } from "./filter.ts";
import { listQuery, type RequestLogCursor, type Walk, walkOf } from "./list-query.ts";
import { type RequestLogRow, rowColumns, type SelectedRow, toRow } from "./row.ts";

export interface RequestLogPage {
  readonly rows: RequestLogRow[];
  /** Where the next page goes on; undefined: this is the last one. */
  readonly next: RequestLogCursor | undefined;
}

export interface RequestLogStore {
  /**
   * The rows after the cursor, newest first, at most `limit`. There may be fewer,
   * even none, though more follow: a page looks at a bounded number of rows.
   */
  list(filter: RequestLogFilter, limit: number, after?: RequestLogCursor): Promise<RequestLogPage>;
  /** Undefined: there is no such row. */
  get(id: string): Promise<RequestLogRow | undefined>;
}

/** Services with one method, or methods of one service, that are walked side by side. Others can be made up by whoever asks for verdicts. */
const maxNames = 100;

/** For the transaction: an index in its order, even where Postgres thinks that sorting a few rows is cheaper. They may be many. */
const inIndexOrder: SQL = sql`
  SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_sort', 'enable_incremental_sort', 'enable_seqscan',
    'enable_bitmapscan', 'jit']) AS name`;

/** Rows looked at for one page, where a condition is left that no index answers. */
export const defaultScanBudget = 20_000;

export function createRequestLogStore(
  db: Database,
  { scanBudget = defaultScanBudget }: { scanBudget?: number } = {},
): RequestLogStore {
  return {
    list: (filter, limit, after) =>
      db.transaction(
        async (tx) => {
          await tx.execute(inIndexOrder);
          if (!(await canMatch(tx, filter))) return { rows: [], next: undefined };
          const walk = await findWalk(tx, filter);
          const found = await tx.execute<SelectedRow & { matches: boolean; is_last: boolean }>(
            listQuery({ filter, walk, limit, after, scanBudget }),
          );
          const rows = found.filter((row) => row.matches).map(toRow);
          const shown = rows.slice(0, limit);
          const end = found.length > limit ? shown.at(-1) : undefined;
          const last = found.at(-1);
          const lookedAt = last?.is_last ? toRow(last) : undefined;
          return { rows: shown, next: cursorAt(end ?? lookedAt) };
        },
        { accessMode: "read only" },
      ),
    async get(id) {
      // Made when the RPC began, which is where its row is. Clocks that jump set the two apart.
      const beganMs = Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);
      if (beganMs > lastMs) return undefined;
      const [from, until] = [beganMs - idSlackMs, beganMs + idSlackMs].map((ms) =>
        new Date(ms).toISOString(),
      );
      const [row] = await db.execute<SelectedRow>(sql`
        SELECT ${rowColumns} FROM ${requestLogs}
        WHERE time >= ${from}::timestamptz AND time <= ${until}::timestamptz AND id = ${id}::uuid`);
      return row && toRow(row);
    },
  };
}

const idSlackMs = 1000;
/** Within the year 9999, which is the last that a Date writes as Postgres reads it. */
const lastMs = Date.UTC(9999, 0, 1);

function cursorAt(row: RequestLogRow | undefined): RequestLogCursor | undefined {
  return row && { time: row.time, id: row.id };
}

/**
 * False where a key is asked for that is not the user's: a key never changes its
 * user, so that one row tells. Pages that are empty, one after the other, would
 * tell others how much the key is used.
 */
async function canMatch(tx: Executor, { apiKeyId, userId }: RequestLogFilter): Promise<boolean> {
  if (apiKeyId === undefined || userId === undefined) return true;
  const query = listQuery({ filter: { apiKeyId }, walk: walkOf({ apiKeyId }), limit: 1, scanBudget: 1 });
  const [newest] = await tx.execute<SelectedRow>(query);
  return newest !== undefined && toRow(newest).userId === userId;
}

/** The walk for a filter, the log asked for names where it takes them. */
async function findWalk(tx: Executor, filter: RequestLogFilter): Promise<Walk> {
  const walk = walkOf(filter, []);
  if (walk.branches?.type !== "text") return walk;
  const found = await tx.execute<{ name: string }>(namesQuery(filter));
  return walkOf(filter, found.length > maxNames ? undefined : found.map(({ name }) => name));
}

/**
 * The methods of a service, or the services, that the log has: each is found from
 * the one before by a step through the index, however many rows it has.
 */
function namesQuery({ service }: RequestLogFilter): SQL {
  const column = sql.raw(service === undefined ? "service" : "method");
  const within = service === undefined ? sql`true` : sql`service = ${service}`;
  const step = (condition: SQL) =>
    sql`SELECT ${column} AS name FROM ${requestLogs} WHERE ${within} AND ${condition} ORDER BY ${column} LIMIT 1`;
  return sql`
    WITH RECURSIVE found (name, n) AS (
      (SELECT name, 1 FROM (${step(sql`true`)}) first)
      UNION ALL
      SELECT following.name, found.n + 1
      FROM found, LATERAL (${step(sql`${column} > found.name`)}) following
      WHERE found.n <= ${maxNames}
    ) SELECT name FROM found`;
}
