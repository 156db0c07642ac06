/** Users in Postgres, as they are read. Changed by `changes.ts`. */
import { and, asc, eq, getTableColumns, gt, inArray, like, not, or, type SQL, sql } from "drizzle-orm";
import type { StaffUser } from "../auth/grant.ts";
import type { Database } from "../db/client.ts";
import { apiKeys, users } from "../db/schema.ts";

export type User = typeof users.$inferSelect;

/** A user and what it holds. */
export interface UserWithKeys extends User {
  /** API keys that are neither revoked nor expired. */
  readonly activeKeyCount: number;
}

export interface UserFilter {
  /** In the username or the email, without regard to case. */
  search?: string | undefined;
  isStaff?: boolean | undefined;
  isActive?: boolean | undefined;
}

export interface UserStore {
  get(id: bigint): Promise<User | undefined>;
  getWithKeys(id: bigint): Promise<UserWithKeys | undefined>;
  /** Those that there are, in the order of their ids. */
  getAllWithKeys(ids: readonly bigint[]): Promise<UserWithKeys[]>;
  /** In the order of their ids, at most `limit`, those after `afterId`. */
  list(filter: UserFilter, limit: number, afterId?: bigint): Promise<UserWithKeys[]>;
  /** Active users in the order of their ids, at most `limit`, those after `afterId`. */
  listActive(limit: number, afterId?: bigint): Promise<User[]>;
  firstStaffUser(): Promise<StaffUser | undefined>;
}

/** The columns of {@link UserWithKeys}. */
export const withKeys = {
  ...getTableColumns(users),
  // In a selection from one table, Drizzle leaves out the table of a column: "id" would be the key's.
  activeKeyCount: sql<number>`(
    SELECT count(*)::int FROM ${apiKeys} WHERE ${apiKeys}.user_id = ${users}.id
      AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))`.as("active_key_count"),
};

export function createUserStore(db: Database): UserStore {
  const firstStaff = db
    .select({ userId: users.id, username: users.username })
    .from(users)
    .where(and(users.isStaff, users.isActive))
    .orderBy(asc(users.id))
    .limit(1)
    .prepare("first_staff_user");

  return {
    async get(id) {
      return (await db.select().from(users).where(eq(users.id, id)))[0];
    },
    async getWithKeys(id) {
      return (await db.select(withKeys).from(users).where(eq(users.id, id)))[0];
    },
    getAllWithKeys(ids) {
      return db
        .select(withKeys)
        .from(users)
        .where(inArray(users.id, [...ids]))
        .orderBy(asc(users.id));
    },
    list({ search, isStaff, isActive }, limit, afterId = 0n) {
      return db
        .select(withKeys)
        .from(users)
        .where(
          and(
            gt(users.id, afterId),
            search === undefined ? undefined : contains(search),
            isStaff === undefined ? undefined : is(users.isStaff, isStaff),
            isActive === undefined ? undefined : is(users.isActive, isActive),
          ),
        )
        .orderBy(asc(users.id))
        .limit(limit);
    },
    listActive(limit, afterId = 0n) {
      return db
        .select()
        .from(users)
        .where(and(users.isActive, gt(users.id, afterId)))
        .orderBy(asc(users.id))
        .limit(limit);
    },
    async firstStaffUser() {
      return (await firstStaff.execute())[0];
    },
  };
}

/** A username as it is compared: without regard to case and to how Unicode composes it. */
export function foldUsername(username: string): string {
  return username.normalize("NFKC").toLowerCase();
}

function contains(text: string): SQL | undefined {
  const pattern = (part: string) => `%${part.replace(/[\\%_]/g, "\\$&")}%`;
  return or(like(users.usernameKey, pattern(foldUsername(text))), sql`${users.email} ILIKE ${pattern(text)}`);
}

/** As a condition without a parameter: only that lets Postgres use the index of active staff. */
function is(column: typeof users.isStaff | typeof users.isActive, value: boolean): SQL {
  return value ? sql`${column}` : not(sql`${column}`);
}
