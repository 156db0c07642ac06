/** The audit log in Postgres, as it is read. Written by `db/audit.ts`. */
import { and, desc, eq, gte, lt, lte, type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { AuditAction } from "../db/audit.ts";
import type { Database } from "../db/client.ts";
import { auditEvents as t } from "../db/schema.ts";

export { type AuditAction, auditActions } from "../db/audit.ts";

export type AuditEventRow = typeof t.$inferSelect;

export interface AuditFilter {
  actorUserId?: bigint | undefined;
  actorApiKeyId?: string | undefined;
  /** The user and its keys. */
  targetUserId?: bigint | undefined;
  targetApiKeyId?: string | undefined;
  action?: AuditAction | undefined;
  /** Inclusive. */
  from?: Date | undefined;
  /** Exclusive. */
  until?: Date | undefined;
}

export interface AuditStore {
  /** Newest first, at most `limit`, those before the event `beforeId`. */
  list(filter: AuditFilter, limit: number, beforeId?: bigint): Promise<AuditEventRow[]>;
}

export function createAuditStore(db: Database): AuditStore {
  return {
    list(filter, limit, beforeId) {
      const { column, conditions } = lead(filter, beforeId);
      return db
        .select()
        .from(t)
        .where(and(...conditions))
        .orderBy(...(column === undefined ? [] : [desc(column)]), desc(t.id))
        .limit(limit);
    },
  };
}

/**
 * What a listing is ordered by before the id, if anything, and all its conditions.
 *
 * Each index has the id behind what it names, so that a page lies together in it.
 * Asked for the events of one value in the order of ids, Postgres may still go
 * through all events, newest first, where it knows the value to be frequent; but
 * all that have it may be old. Hence neither the order nor the condition says that
 * there is one value only, which leaves but the index.
 */
function lead(
  filter: AuditFilter,
  beforeId: bigint | undefined,
): { column: PgColumn | undefined; conditions: (SQL | undefined)[] } {
  const { from, until } = filter;
  const range = [from && gte(t.time, from), until && lt(t.time, until)];
  // In the order of how few events they leave.
  const names: [PgColumn, bigint | string | undefined][] = [
    [t.targetApiKeyId, filter.targetApiKeyId],
    [t.targetUserId, filter.targetUserId],
    [t.actorApiKeyId, filter.actorApiKeyId],
    [t.actorUserId, filter.actorUserId],
    [t.action, filter.action],
  ];
  /** Of one target or one key there are few, whatever else is named. */
  const few: PgColumn[] = [t.targetApiKeyId, t.targetUserId, t.actorApiKeyId];
  const named = names.filter(([, value]) => value !== undefined);
  const [first, ...others] = named;
  const before = beforeId === undefined ? undefined : lt(t.id, beforeId);
  if (first !== undefined && (others.length === 0 || few.includes(first[0]))) {
    const [column, value] = first;
    const place =
      beforeId === undefined ? lte(column, value) : sql`(${column}, ${t.id}) < (${value}, ${beforeId})`;
    // Which no index answers: the one of the first is the one to go by.
    const also = others.map(([other, of]) => sql`${other} IS NOT DISTINCT FROM ${of}`);
    const time = sql`coalesce(${t.time})`;
    const during = [from && gte(time, from.toISOString()), until && lt(time, until.toISOString())];
    return { column, conditions: [gte(column, value), place, ...also, ...during] };
  }
  if (first !== undefined) {
    // Which of a user and an action leaves fewer events, Postgres knows best.
    return { column: undefined, conditions: [...named.map(([one, of]) => eq(one, of)), before, ...range] };
  }
  if (from === undefined && until === undefined) return { column: undefined, conditions: [before] };
  // In the order of ids, all that is newer than the range would be read first.
  if (beforeId === undefined) return { column: t.time, conditions: range };
  // Read here, since an event's time is finer than a Date. No event is ever deleted.
  const time = sql`(SELECT e.time FROM ${t} e WHERE e.id = ${beforeId})`;
  // The first condition says nothing that the second does not, but is one for the index.
  const place = sql`(${t.time}, ${t.id}) < (${time}, ${beforeId})`;
  return { column: t.time, conditions: [lte(t.time, time), place, ...range] };
}
