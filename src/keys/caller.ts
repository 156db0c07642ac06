/**
 * The limits that a caller's own key sets to the changes made with it, read in the
 * change's transaction.
 *
 * Locks are taken in one order everywhere, so that no two changes wait for each
 * other: the request id, users by id, keys by id.
 */
import { asc, eq, inArray, sql } from "drizzle-orm";
import { verifyMethod } from "../auth/inquiry.ts";
import type { Actor } from "../db/audit.ts";
import type { Executor } from "../db/client.ts";
import { apiKeys, users } from "../db/schema.ts";
import { type ApiKeyRecord, readKey, scopeOf } from "./record.ts";
import { CallerEndedError, ExceedsCallerError } from "./refusal.ts";
import { coversPattern, excessOf, type Scope, unlimited } from "./scope.ts";

const verifyPattern = `${verifyMethod.service}/${verifyMethod.name}`;

/**
 * Holds the caller and other users still until the transaction ends: none of them
 * can be disabled, deleted or made less than staff meanwhile. Returns those that
 * there are, by id. Rejects with {@link CallerEndedError}, and with
 * {@link ExceedsCallerError} where others are held for one who is not staff.
 */
export async function holdUsers(
  tx: Executor,
  actor: Actor,
  userIds: readonly bigint[],
): Promise<ReadonlyMap<bigint, { readonly isActive: boolean }>> {
  const held = await tx
    .select({ id: users.id, isActive: users.isActive, isStaff: users.isStaff })
    .from(users)
    .where(inArray(users.id, [...userIds, ...(actor.userId === undefined ? [] : [actor.userId])]))
    .orderBy(asc(users.id))
    .for("share");
  const byId = new Map(held.map((user) => [user.id, user]));
  if (actor.userId === undefined) return byId;
  const caller = byId.get(actor.userId);
  if (!caller?.isActive) throw new CallerEndedError("your user is disabled");
  // It was when the call was let in.
  if (!caller.isStaff && userIds.some((id) => id !== actor.userId)) {
    throw new ExceedsCallerError("only staff may do this for another user");
  }
  return byId;
}

/**
 * What the caller's own key can do, and holds that key still until the transaction
 * ends. Unlimited for a caller without one: the secret key, the server itself.
 * Rejects with {@link CallerEndedError}.
 */
export async function callerScope(tx: Executor, actor: Actor): Promise<Scope> {
  if (actor.apiKeyId === undefined) return unlimited;
  const [key] = await tx
    .select({
      allowedMethods: apiKeys.allowedMethods,
      allowedAddresses: apiKeys.allowedAddresses,
      expiresAt: apiKeys.expiresAt,
      canVerify: sql<boolean>`${apiKeys.canVerify} OR ${users.isStaff}`,
      ended: sql<boolean>`${apiKeys.revokedAt} IS NOT NULL OR NOT ${users.isActive}
        OR coalesce(${apiKeys.expiresAt} <= clock_timestamp(), false)`,
    })
    .from(apiKeys)
    .innerJoin(users, eq(users.id, apiKeys.userId))
    .where(eq(apiKeys.id, actor.apiKeyId))
    .for("share", { of: apiKeys });
  if (key === undefined || key.ended) throw new CallerEndedError("your API key has ended");
  const scope = scopeOf(key);
  const { methods } = scope;
  return {
    ...scope,
    canVerify: scope.canVerify && (methods.length === 0 || coversPattern(methods, verifyPattern)),
  };
}

/** Rejects with {@link ExceedsCallerError} where a scope goes beyond a caller's. */
export function checkWithin(wanted: Scope, limit: Scope): void {
  const excess = excessOf(wanted, limit);
  if (excess !== undefined) throw new ExceedsCallerError(excess);
}

/**
 * Holds a key that is to be changed, its user, and the caller's own. Undefined: there
 * is no such key. Rejects as {@link holdUsers} and {@link callerScope} do.
 */
export async function holdKey(
  tx: Executor,
  id: string,
  actor: Actor,
): Promise<
  { key: ApiKeyRecord; owner: { readonly isActive: boolean } | undefined; limit: Scope } | undefined
> {
  const [owned] = await tx.select({ userId: apiKeys.userId }).from(apiKeys).where(eq(apiKeys.id, id));
  if (owned === undefined) return undefined;
  const held = await holdUsers(tx, actor, [owned.userId]);
  const callerFirst = actor.apiKeyId !== undefined && actor.apiKeyId < id;
  const before = callerFirst ? await callerScope(tx, actor) : undefined;
  await lockKey(tx, id);
  const limit = before ?? (await callerScope(tx, actor));
  // Read anew: the lock may have waited for a change.
  const key = await readKey(tx, id);
  return key && { key, owner: held.get(key.userId), limit };
}

/** Locks a key that is to be changed. */
export async function lockKey(tx: Executor, id: string): Promise<void> {
  await tx.select({ id: apiKeys.id }).from(apiKeys).where(eq(apiKeys.id, id)).for("no key update");
}
