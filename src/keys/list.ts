/** Listings of keys: filters, orders, and where a page ends. */
import { and, asc, desc, eq, gt, ilike, isNull, lte, not, or, type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Database } from "../db/client.ts";
import { apiKeys, apiKeyUsage, users } from "../db/schema.ts";
import { type ApiKeyRecord, type ApiKeyStatus, type ApiKeyType, recordColumns } from "./record.ts";

export interface ApiKeyFilter {
  userId?: bigint | undefined;
  type?: ApiKeyType | undefined;
  status?: ApiKeyStatus | undefined;
  /** Not used for so many days of 24 hours, counting from the creation where never used. */
  unusedForDays?: number | undefined;
  /** Active, and expiring within so many days of 24 hours. */
  expiresWithinDays?: number | undefined;
  /** In name, description, start or username, without regard to case. */
  search?: string | undefined;
  /** Undefined: as the days have it, else the newest first. */
  sort?: { readonly by: SortOrder; readonly descending: boolean } | undefined;
}

/** A key in a listing, and the cursor of what follows it. */
export interface ListedKey {
  readonly key: ApiKeyRecord;
  readonly cursor: readonly string[];
}

/** What a listing can be sorted by. */
export type SortOrder = "created" | "name" | "requests" | "last_used" | "expires";

/** By a {@link SortOrder}, or by the days that are asked for: the longest unused first, the soonest to expire first. */
export type ListOrder = SortOrder | "idle" | "expiring";

/** The order that a filter is listed in. */
export function orderOf(filter: ApiKeyFilter): { readonly by: ListOrder; readonly descending: boolean } {
  if (filter.sort !== undefined) return filter.sort;
  if (filter.unusedForDays !== undefined) return { by: "idle", descending: false };
  if (filter.expiresWithinDays !== undefined) return { by: "expiring", descending: false };
  return { by: "created", descending: true };
}

/** What Postgres compares, to the microsecond; empty for a time that there is not. */
const timeText = (time: PgColumn) =>
  sql<string>`coalesce(to_char(${time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '')`;
const timeOr = (absent: "infinity" | "-infinity") => (text: string) =>
  text === "" ? sql.raw(`'${absent}'::timestamptz`) : sql`${text}::timestamptz`;

/**
 * Each order: the value that it goes by, which is never null, as a text for the cursor
 * and back. Behind it stands the id. "created", "name", "idle" and "expiring" have an
 * index. The other two values change with every use, so that an index would make
 * counting dearer: their listings sort all keys that match.
 */
const orders: Record<ListOrder, { value: SQL; text: SQL<string>; parse: (text: string) => SQL }> = {
  created: { value: sql`${apiKeys.id}`, text: sql`''`, parse: (id) => sql`${id}::uuid` },
  name: {
    value: sql`lower(${apiKeys.name})`,
    text: sql`lower(${apiKeys.name})`,
    parse: (name) => sql`${name}::text`,
  },
  requests: {
    value: sql`${apiKeyUsage.requestCount}`,
    text: sql`${apiKeyUsage.requestCount}::text`,
    parse: (count) => sql`${count}::bigint`,
  },
  last_used: {
    value: sql`coalesce(${apiKeyUsage.lastUsedAt}, '-infinity')`,
    text: timeText(apiKeyUsage.lastUsedAt),
    parse: timeOr("-infinity"),
  },
  expires: {
    value: sql`coalesce(${apiKeys.expiresAt}, 'infinity')`,
    text: timeText(apiKeys.expiresAt),
    parse: timeOr("infinity"),
  },
  idle: {
    value: sql`${apiKeyUsage.idleSince}`,
    text: sql`to_char(${apiKeyUsage.idleSince}, 'YYYY-MM-DD')`,
    parse: (day) => sql`${day}::date`,
  },
  expiring: {
    value: sql`${apiKeys.expiresAt}`,
    text: timeText(apiKeys.expiresAt),
    parse: timeOr("infinity"),
  },
};

/** At most `limit` keys, those after the cursor, in the order of {@link orderOf}. */
export async function listKeys(
  db: Database,
  filter: ApiKeyFilter,
  limit: number,
  after?: readonly string[],
): Promise<ListedKey[]> {
  const { by, descending } = orderOf(filter);
  const { value, text } = orders[by];
  const direction = descending ? desc : asc;
  // As the index of the order has it.
  const id = by === "idle" ? apiKeyUsage.apiKeyId : apiKeys.id;
  const rows = await db
    .select({ ...recordColumns, position: text })
    .from(apiKeys)
    .innerJoin(apiKeyUsage, eq(apiKeyUsage.apiKeyId, apiKeys.id))
    .where(and(...conditions(filter), after && isAfter(by, descending, id, after)))
    .orderBy(...(by === "created" ? [] : [direction(value)]), direction(id))
    .limit(limit);
  return rows.map(({ position, ...key }) => ({
    key,
    cursor: by === "created" ? [key.id] : [position, key.id],
  }));
}

function isAfter(by: ListOrder, descending: boolean, id: PgColumn, cursor: readonly string[]): SQL {
  const operator = sql.raw(descending ? "<" : ">");
  if (by === "created") return sql`${id} ${operator} ${cursor[0]}::uuid`;
  const [position = "", last] = cursor;
  const { value, parse } = orders[by];
  return sql`(${value}, ${id}) ${operator} (${parse(position)}, ${last}::uuid)`;
}

/** How many keys of each status match, whatever status and days the filter asks for. */
export async function countKeys(
  db: Database,
  filter: Pick<ApiKeyFilter, "userId" | "type" | "search">,
): Promise<Record<ApiKeyStatus, bigint>> {
  const [counts] = await db
    .select({
      total: sql<string>`count(*)`,
      revoked: sql<string>`count(*) FILTER (WHERE ${byStatus.revoked})`,
      expired: sql<string>`count(*) FILTER (WHERE ${byStatus.expired})`,
    })
    .from(apiKeys)
    .where(and(...conditions(filter)));
  const { total = 0, revoked = 0, expired = 0 } = counts ?? {};
  return {
    active: BigInt(total) - BigInt(revoked) - BigInt(expired),
    expired: BigInt(expired),
    revoked: BigInt(revoked),
  };
}

const byStatus: Record<ApiKeyStatus, SQL | undefined> = {
  active: and(isNull(apiKeys.revokedAt), or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`now()`))),
  expired: and(isNull(apiKeys.revokedAt), lte(apiKeys.expiresAt, sql`now()`)),
  revoked: not(isNull(apiKeys.revokedAt)),
};

function conditions(filter: ApiKeyFilter): (SQL | undefined)[] {
  const { userId, type, status, unusedForDays, expiresWithinDays, search } = filter;
  return [
    userId === undefined ? undefined : eq(apiKeys.userId, userId),
    type === undefined ? undefined : eq(apiKeys.type, type),
    status === undefined ? undefined : byStatus[status],
    unusedForDays === undefined ? undefined : unusedFor(unusedForDays),
    expiresWithinDays === undefined
      ? undefined
      : and(byStatus.active, lte(apiKeys.expiresAt, sql`now() + ${days(expiresWithinDays)}`)),
    search === undefined ? undefined : contains(search),
  ];
}

function unusedFor(n: number): SQL | undefined {
  const cutOff = sql`now() - ${days(n)}`;
  return and(
    // Says nothing that the second does not, but has an index.
    sql`${apiKeyUsage.idleSince} <= ((${cutOff}) AT TIME ZONE 'UTC')::date`,
    sql`coalesce(${apiKeyUsage.lastUsedAt}, ${apiKeys.createdAt}) < ${cutOff}`,
  );
}

/** In hours: a day has 24 of them, whatever the session's time zone. */
function days(n: number): SQL {
  return sql`make_interval(hours => ${n * 24}::int)`;
}

function contains(text: string): SQL | undefined {
  const pattern = `%${text.replaceAll(/[\\%_]/g, "\\$&")}%`;
  return or(
    ilike(apiKeys.name, pattern),
    ilike(apiKeys.description, pattern),
    ilike(apiKeys.start, pattern),
    sql`${apiKeys.userId} IN (SELECT id FROM ${users} WHERE username ILIKE ${pattern})`,
  );
}
