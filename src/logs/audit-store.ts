/** The audit log in Postgres, as it is read. Written by `db/audit.ts`. */
import { and, desc, eq, gte, lt, lte, type SQL, sql } from "drizzle-orm";
import type { AuditAction } from "../db/audit.ts";
import type { Database } from "../db/client.ts";
import { auditEvents } from "../db/schema.ts";

export { type AuditAction, auditActions } from "../db/audit.ts";

export type AuditEventRow = typeof auditEvents.$inferSelect;

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
      const { actorUserId, actorApiKeyId, targetUserId, targetApiKeyId, action, from, until } = filter;
      const t = auditEvents;
      const named = and(
        actorUserId === undefined ? undefined : eq(t.actorUserId, actorUserId),
        actorApiKeyId === undefined ? undefined : eq(t.actorApiKeyId, actorApiKeyId),
        targetUserId === undefined ? undefined : eq(t.targetUserId, targetUserId),
        targetApiKeyId === undefined ? undefined : eq(t.targetApiKeyId, targetApiKeyId),
        action === undefined ? undefined : eq(t.action, action),
      );
      const range = and(
        from === undefined ? undefined : gte(t.time, from),
        until === undefined ? undefined : lt(t.time, until),
      );
      const query = db.select().from(t);
      // Each index has the id behind what it names. With a range alone there is only the index of times:
      // in the order of ids, all that is newer than the range would be read first.
      return named === undefined && range !== undefined
        ? query
            .where(and(range, beforeId === undefined ? undefined : before(beforeId)))
            .orderBy(desc(t.time), desc(t.id))
            .limit(limit)
        : query
            .where(and(named, range, beforeId === undefined ? undefined : lt(t.id, beforeId)))
            .orderBy(desc(t.id))
            .limit(limit);
    },
  };
}

/** What comes after an event in the order of times. Events are never deleted. */
function before(id: bigint): SQL | undefined {
  const t = auditEvents;
  // Read here, since an event's time is finer than a Date.
  const time = sql`(SELECT e.time FROM ${t} e WHERE e.id = ${id})`;
  // The first condition says nothing that the second does not, but is one for the index.
  return and(lte(t.time, time), sql`(${t.time}, ${t.id}) < (${time}, ${id})`);
}
