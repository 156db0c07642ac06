/** Listings of keys: filters, orders, and where a page ends. */
import { and, asc, desc, eq, gt, ilike, isNull, lt, lte, not, or, type SQL, sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";
import { apiKeys, apiKeyUsage } from "../db/schema.ts";
import { type ApiKeyRecord, type ApiKeyStatus, type ApiKeyType, recordColumns } from "./record.ts";

export interface ApiKeyFilter {
  userId?: bigint | undefined;
  type?: ApiKeyType | undefined;
  status?: ApiKeyStatus | undefined;
  /** Not used for so many days of 24 hours, counting from the creation where never used. */
  unusedForDays?: number | undefined;
  /** Active, and expiring within so many days of 24 hours. */
  expiresWithinDays?: number | undefined;
  /** In name, description or start, without regard to case. */
  search?: string | undefined;
}

/** A key in a listing, and the cursor of what follows it. */
export interface ListedKey {
  readonly key: ApiKeyRecord;
  readonly cursor: readonly string[];
}

/** Newest first; longest unused first; soonest to expire first. */
export type ListOrder = "newest" | "idle" | "expiring";

/**
 * The order that a filter is listed in, and with it what its cursors hold: for
 * "newest" an id, for "idle" a day like 2026-11-24 and an id, for "expiring" a time
 * like 2026-11-24T13:37:00.000000Z and an id.
 */
export function orderOf(filter: ApiKeyFilter): ListOrder {
  if (filter.unusedForDays !== undefined) return "idle";
  return filter.expiresWithinDays === undefined ? "newest" : "expiring";
}

/** Each order by an index of its own. A cursor holds what Postgres compares, to the microsecond. */
const orders: Record<
  ListOrder,
  { by: SQL[]; position: SQL<string>; after: (cursor: readonly string[]) => SQL }
> = {
  newest: {
    by: [desc(apiKeys.id)],
    position: sql`''`,
    after: ([id = ""]) => lt(apiKeys.id, id),
  },
  idle: {
    by: [asc(apiKeyUsage.idleSince), asc(apiKeyUsage.apiKeyId)],
    position: sql`to_char(${apiKeyUsage.idleSince}, 'YYYY-MM-DD')`,
    after: ([day, id]) =>
      sql`(${apiKeyUsage.idleSince}, ${apiKeyUsage.apiKeyId}) > (${day}::date, ${id}::uuid)`,
  },
  expiring: {
    by: [asc(apiKeys.expiresAt), asc(apiKeys.id)],
    position: sql`to_char(${apiKeys.expiresAt} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    after: ([time, id]) => sql`(${apiKeys.expiresAt}, ${apiKeys.id}) > (${time}::timestamptz, ${id}::uuid)`,
  },
};

/** At most `limit` keys, those after the cursor, in the order of {@link orderOf}. */
export async function listKeys(
  db: Database,
  filter: ApiKeyFilter,
  limit: number,
  after?: readonly string[],
): Promise<ListedKey[]> {
  const order = orders[orderOf(filter)];
  const rows = await db
    .select({ ...recordColumns, position: order.position })
    .from(apiKeys)
    .innerJoin(apiKeyUsage, eq(apiKeyUsage.apiKeyId, apiKeys.id))
    .where(and(...conditions(filter), after && order.after(after)))
    .orderBy(...order.by)
    .limit(limit);
  return rows.map(({ position, ...key }) => ({
    key,
    cursor: position === "" ? [key.id] : [position, key.id],
  }));
}

function conditions(filter: ApiKeyFilter): (SQL | undefined)[] {
  const { userId, type, status, unusedForDays, expiresWithinDays, search } = filter;
  const active = and(
    isNull(apiKeys.revokedAt),
    or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`now()`)),
  );
  const byStatus: Record<ApiKeyStatus, SQL | undefined> = {
    active,
    expired: and(isNull(apiKeys.revokedAt), lte(apiKeys.expiresAt, sql`now()`)),
    revoked: not(isNull(apiKeys.revokedAt)),
  };
  return [
    userId === undefined ? undefined : eq(apiKeys.userId, userId),
    type === undefined ? undefined : eq(apiKeys.type, type),
    status === undefined ? undefined : byStatus[status],
    unusedForDays === undefined ? undefined : unusedFor(unusedForDays),
    expiresWithinDays === undefined
      ? undefined
      : and(active, lte(apiKeys.expiresAt, sql`now() + ${days(expiresWithinDays)}`)),
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
  return or(ilike(apiKeys.name, pattern), ilike(apiKeys.description, pattern), ilike(apiKeys.start, pattern));
}
