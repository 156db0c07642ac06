/** Changes of users in Postgres, each with its audit event in the same transaction. */
import { and, asc, eq, inArray, ne, sql } from "drizzle-orm";
import { type Actor, audit, auditAll } from "../db/audit.ts";
import { type Executor, sqlState, type Transact } from "../db/client.ts";
import { apiKeys, apiKeyUsage, users } from "../db/schema.ts";
import { checkMayMakeStaff, checkStillStaff } from "./grantor.ts";
import { foldUsername, type User, type UserWithKeys, withKeys } from "./store.ts";

/** Any number, the same in every instance. */
const changeLock = 7_270_951_827;

export interface NewUser {
  username: string;
  email: string;
  bio: string;
  isStaff: boolean;
}

/** What can be changed of a user, and what the audit log calls it. */
const auditedNames = {
  username: "username",
  email: "email",
  bio: "bio",
  isStaff: "is_staff",
  isActive: "is_active",
} as const;

/** New values; a field that is left out stays as it is. */
export type UserUpdate = Partial<Pick<User, keyof typeof auditedNames>>;

export interface UpdatedUser {
  readonly user: UserWithKeys;
  /** Active API keys that ended, since this disabled their user. */
  readonly endedKeyCount: number;
}

/** The username is taken, without regard to case. */
export class UsernameTakenError extends Error {
  override name = "UsernameTakenError";
}

/** Without this user nobody could administer any more. */
export class LastStaffUserError extends Error {
  override name = "LastStaffUserError";
}

/** Changes users. May be called concurrently. */
export interface UserChanges {
  /** Rejects with {@link UsernameTakenError} and, for a staff user, as `checkMayMakeStaff` does. */
  create(user: NewUser, actor: Actor): Promise<User>;
  /**
   * Changes what differs; where nothing does, nothing is written. Undefined: there
   * is no such user. Rejects with {@link UsernameTakenError}, {@link LastStaffUserError},
   * as `checkStillStaff` does and, where it makes or enables a staff user, as
   * `checkMayMakeStaff` does.
   */
  update(id: bigint, update: UserUpdate, actor: Actor): Promise<UpdatedUser | undefined>;
  /**
   * Deletes a user and all that is its own, and says how many active API keys
   * went with it. Undefined: there is no such user. Rejects with {@link LastStaffUserError}
   * and as `checkStillStaff` does.
   */
  delete(id: bigint, actor: Actor): Promise<number | undefined>;
}

export function createUserChanges(transact: Transact): UserChanges {
  return {
    create(user, actor) {
      const creation = transact(async (tx) => {
        if (user.isStaff) await checkMayMakeStaff(tx, actor);
        return createUser(tx, user, actor);
      });
      return orTaken(user.username, creation);
    },
    update(id, update, actor) {
      return orTaken(
        update.username,
        transact((tx) => updateUser(tx, id, update, actor)),
      );
    },
    delete(id, actor) {
      return transact((tx) => deleteUser(tx, id, actor));
    },
  };
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

async function updateUser(
  tx: Executor,
  id: bigint,
  update: UserUpdate,
  actor: Actor,
): Promise<UpdatedUser | undefined> {
  const { username, isStaff, isActive } = update;
  if (username !== undefined || isStaff !== undefined || isActive !== undefined) await oneAtATime(tx);
  const [user] = await tx
    .select(withKeys)
    .from(users)
    .where(eq(users.id, id))
    // A username is in a unique index: changing it takes the stronger lock, which must not be waited for later.
    .for(username === undefined ? "no key update" : "update");
  if (user === undefined) return undefined;
  await checkStillStaff(tx, actor, id);
  const changes = Object.fromEntries(
    Object.entries(update).filter(([field, value]) => user[field as keyof UserUpdate] !== value),
  ) as UserUpdate;
  const changed = Object.keys(changes) as (keyof UserUpdate)[];
  if (changed.length === 0) return { user, endedKeyCount: 0 };

  const next = { ...user, ...changes };
  if (next.isStaff && (!user.isStaff || (next.isActive && !user.isActive))) {
    await checkMayMakeStaff(tx, actor);
  }
  if (administers(user) && !administers(next)) await checkNotLast(tx, id);
  const [updated] = await tx
    .update(users)
    .set({
      ...changes,
      ...(changes.username !== undefined && { usernameKey: foldUsername(changes.username) }),
      updatedAt: sql`now()`,
    })
    .where(eq(users.id, id))
    .returning(withKeys);
  if (updated === undefined) throw new Error("a user that was just locked is not there");
  const named = (from: User) =>
    Object.fromEntries(changed.map((field) => [auditedNames[field], from[field]]));
  await audit(tx, actor, {
    action: "user.update",
    targetUserId: id,
    before: named(user),
    after: named(updated),
  });
  return { user: updated, endedKeyCount: user.isActive && !updated.isActive ? updated.activeKeyCount : 0 };
}

async function deleteUser(tx: Executor, id: bigint, actor: Actor): Promise<number | undefined> {
  await oneAtATime(tx);
  const [user] = await tx.select().from(users).where(eq(users.id, id)).for("update");
  if (user === undefined) return undefined;
  await checkStillStaff(tx, actor, id);
  if (administers(user)) await checkNotLast(tx, id);
  const keys = await tx
    .select({
      id: apiKeys.id,
      isActive: sql<boolean>`${apiKeys.revokedAt} IS NULL AND coalesce(${apiKeys.expiresAt} > now(), true)`,
    })
    .from(apiKeys)
    .where(eq(apiKeys.userId, id))
    .orderBy(asc(apiKeys.id))
    .for("update");
  // In the order in which usage is written: the deletion itself would lock the counters in any.
  const ofUser = tx.select({ id: apiKeys.id }).from(apiKeys).where(eq(apiKeys.userId, id));
  await tx
    .select({ id: apiKeyUsage.apiKeyId })
    .from(apiKeyUsage)
    .where(inArray(apiKeyUsage.apiKeyId, ofUser))
    .orderBy(asc(apiKeyUsage.apiKeyId))
    .for("update");
  // Any user can have many: everyone else who changes users waits for this.
  await auditAll(
    tx,
    actor,
    keys.map((key) => ({ action: "api_key.delete", targetUserId: id, targetApiKeyId: key.id })),
  );
  await tx.delete(users).where(eq(users.id, id));
  await audit(tx, actor, { action: "user.delete", targetUserId: id, before: describe(user) });
  return keys.filter((key) => key.isActive).length;
}

/**
 * Lets one transaction at a time change who there is and who is staff. Two of
 * them could otherwise each wait for what the other has locked, and both take
 * the other one for the staff user that is left.
 */
async function oneAtATime(tx: Executor): Promise<void> {
  await tx.execute(sql`SELECT pg_advisory_xact_lock(${changeLock})`);
}

function administers(user: Pick<User, "isStaff" | "isActive">): boolean {
  return user.isStaff && user.isActive;
}

/** Checks that another active staff user exists, and holds it still: none may be disabled meanwhile, not by hand either. */
async function checkNotLast(tx: Executor, id: bigint): Promise<void> {
  const others = await tx
    .select({ id: users.id })
    .from(users)
    .where(and(users.isStaff, users.isActive, ne(users.id, id)))
    .orderBy(asc(users.id))
    .for("share");
  if (others.length === 0) {
    throw new LastStaffUserError(`user ${id} is the last active staff user: make another one staff first`);
  }
}

async function orTaken<T>(username: string | undefined, change: Promise<T>): Promise<T> {
  try {
    return await change;
  } catch (error) {
    if (sqlState(error) !== "23505" || username === undefined) throw error;
    throw new UsernameTakenError(`username ${username} is taken: choose another`, { cause: error });
  }
}

function describe(user: User): Record<string, unknown> {
  const { username, email, isStaff, isActive } = user;
  return { username, email, is_staff: isStaff, is_active: isActive };
}
