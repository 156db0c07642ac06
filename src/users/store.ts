/** Users in Postgres. */
import { and, asc, eq, ne, sql } from "drizzle-orm";
import type { StaffUser } from "../auth/grant.ts";
import { type Actor, audit } from "../db/audit.ts";
import { type Database, type Executor, sqlState } from "../db/client.ts";
import { apiKeys, users } from "../db/schema.ts";

/** Any number, the same in every instance. */
const deletionLock = 7_270_951_827;

export type User = typeof users.$inferSelect;

export interface NewUser {
  username: string;
  email: string;
  bio: string;
  isStaff: boolean;
}

/** The username is taken, without regard to case. */
export class UsernameTakenError extends Error {
  override name = "UsernameTakenError";
}

/** Without this user nobody could administer any more. */
export class LastStaffUserError extends Error {
  override name = "LastStaffUserError";
}

export interface UserStore {
  get(id: bigint): Promise<User | undefined>;
  /** Active users in the order of their ids, at most `limit`, those after `afterId`. */
  listActive(limit: number, afterId?: bigint): Promise<User[]>;
  firstStaffUser(): Promise<StaffUser | undefined>;
  /** Rejects with {@link UsernameTakenError}. */
  create(user: NewUser, actor: Actor): Promise<User>;
  /** Undefined: there is no such user. */
  updateBio(id: bigint, bio: string, actor: Actor): Promise<User | undefined>;
  /** Deletes a user and all that is its own. False: there is no such user. Rejects with {@link LastStaffUserError}. */
  delete(id: bigint, actor: Actor): Promise<boolean>;
}

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
    listActive(limit, afterId = 0n) {
      return db
        .select()
        .from(users)
        .where(and(users.isActive, sql`${users.id} > ${afterId}`))
        .orderBy(asc(users.id))
        .limit(limit);
    },
    async firstStaffUser() {
      return (await firstStaff.execute())[0];
    },
    async create(user, actor) {
      try {
        return await db.transaction((tx) => createUser(tx, user, actor));
      } catch (error) {
        if (sqlState(error) === "23505") throw new UsernameTakenError(user.username, { cause: error });
        throw error;
      }
    },
    updateBio(id, bio, actor) {
      return db.transaction(async (tx) => {
        const [user] = await tx.select().from(users).where(eq(users.id, id)).for("no key update");
        if (user === undefined || user.bio === bio) return user;
        const [updated] = await tx
          .update(users)
          .set({ bio, updatedAt: sql`now()` })
          .where(eq(users.id, id))
          .returning();
        await audit(tx, actor, {
          action: "user.update",
          targetUserId: id,
          before: { bio: user.bio },
          after: { bio },
        });
        return updated;
      });
    },
    delete(id, actor) {
      return db.transaction(async (tx) => {
        // One deletion at a time: two staff users who were deleted at once would each wait for the other's lock.
        await tx.execute(sql`SELECT pg_advisory_xact_lock(${deletionLock})`);
        const [user] = await tx.select().from(users).where(eq(users.id, id)).for("update");
        if (user === undefined) return false;
        if (user.isStaff && user.isActive && !(await hasOtherStaff(tx, id))) throw new LastStaffUserError();
        const keys = await tx
          .select({ id: apiKeys.id })
          .from(apiKeys)
          .where(eq(apiKeys.userId, id))
          .for("update");
        for (const key of keys) {
          await audit(tx, actor, { action: "api_key.delete", targetUserId: id, targetApiKeyId: key.id });
        }
        await tx.delete(users).where(eq(users.id, id));
        await audit(tx, actor, { action: "user.delete", targetUserId: id, before: describe(user) });
        return true;
      });
    },
  };
}

/** A username as it is compared: without regard to case and to how Unicode composes it. */
export function foldUsername(username: string): string {
  return username.normalize("NFKC").toLowerCase();
}

/** Creates a user within a transaction that does more than that. */
export async function createUser(tx: Executor, user: NewUser, actor: Actor): Promise<User> {
  const [created] = await tx
    .insert(users)
    .values({ ...user, usernameKey: foldUsername(user.username) })
    .returning();
  if (created === undefined) throw new Error("the insert of a user returned no row");
  await audit(tx, actor, { action: "user.create", targetUserId: created.id, after: describe(created) });
  return created;
}

/** Whether an active staff user other than this one exists, and holds it still: none may be disabled meanwhile. */
async function hasOtherStaff(tx: Executor, id: bigint): Promise<boolean> {
  const others = await tx
    .select({ id: users.id })
    .from(users)
    .where(and(users.isStaff, users.isActive, ne(users.id, id)))
    .orderBy(asc(users.id))
    .for("share");
  return others.length > 0;
}

function describe(user: User): Record<string, unknown> {
  const { username, email, isStaff, isActive } = user;
  return { username, email, is_staff: isStaff, is_active: isActive };
}
