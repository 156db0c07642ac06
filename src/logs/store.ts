/** The request log in Postgres, as it is read. Written by `usage/store.ts`. */
import { and, desc, eq, gte, lt, lte, sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";
import { requestLogs } from "../db/schema.ts";

export type RequestLogRow = typeof requestLogs.$inferSelect;

export interface RequestLogFilter {
  userId?: bigint | undefined;
  apiKeyId?: string | undefined;
  service?: string | undefined;
  method?: string | undefined;
  /** google.rpc.Code. */
  code?: number | undefined;
  denialReason?: string | undefined;
  /** Inclusive. */
  from?: Date | undefined;
  /** Exclusive. */
  until?: Date | undefined;
}

/** A row's place in the listing. */
export interface RequestLogCursor {
  readonly time: Date;
  readonly id: string;
}

export interface RequestLogStore {
  /** Newest first, at most `limit`, those after the cursor. */
  list(filter: RequestLogFilter, limit: number, after?: RequestLogCursor): Promise<RequestLogRow[]>;
}

export function createRequestLogStore(db: Database): RequestLogStore {
  return {
    list(filter, limit, after) {
      const { userId, apiKeyId, service, method, code, denialReason, from, until } = filter;
      const t = requestLogs;
      return db
        .select()
        .from(t)
        .where(
          and(
            userId === undefined ? undefined : eq(t.userId, userId),
            apiKeyId === undefined ? undefined : eq(t.apiKeyId, apiKeyId),
            service === undefined ? undefined : eq(t.service, service),
            method === undefined ? undefined : eq(t.method, method),
            code === undefined ? undefined : eq(t.code, code),
            denialReason === undefined ? undefined : eq(t.denialReason, denialReason),
            from === undefined ? undefined : gte(t.time, from),
            until === undefined ? undefined : lt(t.time, until),
            // The first condition says nothing that the second does not, but lets Postgres leave out whole days.
            after === undefined ? undefined : lte(t.time, after.time),
            after === undefined
              ? undefined
              : sql`(${t.time}, ${t.id}) < (${after.time.toISOString()}::timestamptz, ${after.id}::uuid)`,
          ),
        )
        .orderBy(desc(t.time), desc(t.id))
        .limit(limit);
    },
  };
}
