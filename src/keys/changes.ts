/** Changes of keys, each in one transaction with its audit event. */
import { and, asc, eq, inArray, isNull, ne, sql } from "drizzle-orm";
import { type Actor, audit, auditAll } from "../db/audit.ts";
import type { Executor, Transact } from "../db/client.ts";
import { apiKeys, users } from "../db/schema.ts";
import { callerScope, checkWithin, holdKey, holdUsers, lockKey } from "./caller.ts";
import { changedFields } from "./changed-fields.ts";
import { findMade, type OnceOnly, remember, takeTurns } from "./idempotency.ts";
import { type ApiKeyRecord, type RevocationReason, readKey, scopeOf } from "./record.ts";
import { ExceedsCallerError, KeyStateError } from "./refusal.ts";
import { type RotatedKeys, type Rotation, rotateApiKey } from "./rotation.ts";
import { excessOf } from "./scope.ts";
import { createApiKey, type NewApiKey, scopeOfNew, UserNotFoundError } from "./store.ts";

export interface CreatedKey {
  readonly key: ApiKeyRecord;
  /** When an earlier sending of the same request made the key; undefined: this one did. */
  readonly madeAt: Date | undefined;
}

/** What an update may change. */
export type KeyFields = Partial<
  Pick<
    ApiKeyRecord,
    "name" | "description" | "type" | "expiresAt" | "allowedMethods" | "allowedAddresses" | "canVerify"
  >
>;

export interface Revocation {
  readonly reason: RevocationReason;
  /** Empty: none. */
  readonly note: string;
}

/**
 * Every change that is limited by the caller's own key rejects with
 * `ExceedsCallerError` where it goes beyond that and with `CallerEndedError` where
 * that key has ended meanwhile. All may be called concurrently.
 */
export interface ApiKeyChanges {
  /**
   * `check` runs before a key is made and not where an earlier sending of the same
   * request made it. Rejects with `UserNotFoundError`, `UserDisabledError` and
   * `RequestIdTakenError`.
   */
  create(key: NewApiKey, actor: Actor, once?: OnceOnly, check?: () => void): Promise<CreatedKey>;
  /**
   * `mayGrantVerify`: `canVerify` may be switched on. Undefined: there is no such
   * key. Rejects with `KeyStateError` for a revoked key.
   */
  update(
    id: string,
    fields: KeyFields,
    actor: Actor,
    mayGrantVerify: boolean,
  ): Promise<ApiKeyRecord | undefined>;
  /** See `rotateApiKey`. */
  rotate(id: string, rotation: Rotation, actor: Actor, once?: OnceOnly): Promise<RotatedKeys | undefined>;
  /** One that is revoked already stays as it is. Undefined: there is no such key. */
  revoke(id: string, revocation: Revocation, actor: Actor): Promise<ApiKeyRecord | undefined>;
  /**
   * Revokes several keys and returns how many were not revoked before. Undefined, and
   * nothing is done: one of them is not there, or not of the user `ownedBy`.
   */
  revokeMany(
    ids: readonly string[],
    revocation: Revocation,
    actor: Actor,
    ownedBy?: bigint,
  ): Promise<number | undefined>;
  /** Revokes a user's keys, but the one named in `keep`; returns how many. Rejects with `UserNotFoundError`. */
  revokeAll(userId: bigint, revocation: Revocation, actor: Actor, keep?: string): Promise<number>;
}

export function createApiKeyChanges(transact: Transact): ApiKeyChanges {
  return {
    create(key, actor, once, check) {
      return transact(async (tx) => {
        const made = once && (await findAllowed(tx, key, actor, once));
        if (made !== undefined) return { key: made.key, madeAt: made.at };
        check?.();
        const created = await createApiKey(tx, key, actor);
        if (once !== undefined) await remember(tx, once, created.id);
        return { key: created, madeAt: undefined };
      });
    },
    update: (id, fields, actor, mayGrantVerify) =>
      transact((tx) => update(tx, id, fields, actor, mayGrantVerify)),
    rotate: (id, rotation, actor, once) => transact((tx) => rotateApiKey(tx, id, rotation, actor, once)),
    revoke(id, revocation, actor) {
      return transact(async (tx) => {
        await lockKey(tx, id);
        const key = await readKey(tx, id);
        if (key === undefined || key.revokedAt !== null) return key;
        await revoke(tx, [key], revocation, actor);
        return readKey(tx, id);
      });
    },
    revokeMany(ids, revocation, actor, ownedBy) {
      return transact(async (tx) => {
        const keys = await tx
          .select({ id: apiKeys.id, userId: apiKeys.userId, revokedAt: apiKeys.revokedAt })
          .from(apiKeys)
          .where(inArray(apiKeys.id, [...ids]))
          .orderBy(asc(apiKeys.id))
          .for("no key update");
        const allThere = keys.length === new Set(ids).size;
        if (!allThere || keys.some(({ userId }) => ownedBy !== undefined && userId !== ownedBy)) {
          return undefined;
        }
        const alive = keys.filter(({ revokedAt }) => revokedAt === null);
        await revoke(tx, alive, revocation, actor);
        return alive.length;
      });
    },
    revokeAll(userId, revocation, actor, keep) {
      return transact(async (tx) => {
        // Whoever makes a key holds its user: one that is being made is waited for and seen.
        const [user] = await tx
          .select({ id: users.id })
          .from(users)
          .where(eq(users.id, userId))
          .for("no key update");
        if (user === undefined) throw new UserNotFoundError(`user ${userId} not found`);
        const keys = await tx
          .select({ id: apiKeys.id, userId: apiKeys.userId })
          .from(apiKeys)
          .where(
            and(
              eq(apiKeys.userId, userId),
              isNull(apiKeys.revokedAt),
              keep === undefined ? undefined : ne(apiKeys.id, keep),
            ),
          )
          .orderBy(asc(apiKeys.id))
          .for("no key update");
        await revoke(tx, keys, revocation, actor);
        return keys.length;
      });
    },
  };
}

/** What a request made before, for a caller that may still make it. */
async function findAllowed(tx: Executor, key: NewApiKey, actor: Actor, once: OnceOnly) {
  await takeTurns(tx, once);
  await holdUsers(tx, actor, [key.userId]);
  checkWithin(scopeOfNew(key), await callerScope(tx, actor));
  return findMade(tx, once);
}

async function update(
  tx: Executor,
  id: string,
  fields: KeyFields,
  actor: Actor,
  mayGrantVerify: boolean,
): Promise<ApiKeyRecord | undefined> {
  const held = await holdKey(tx, id, actor);
  if (held === undefined) return undefined;
  const { key, limit } = held;
  if (key.revokedAt !== null) {
    throw new KeyStateError(`API key ${id} was revoked at ${key.revokedAt.toISOString()}: it stays as it is`);
  }
  const wanted = { ...key, ...fields };
  if (wanted.canVerify && !key.canVerify && !mayGrantVerify) {
    throw new ExceedsCallerError("can_verify: only staff may switch it on");
  }
  // Narrowing is always allowed. What widens a key in one part must not keep another part that
  // the caller lacks: the caller would get the two together, which it has of neither key.
  const scope = scopeOf(wanted);
  if (excessOf(scope, scopeOf(key)) !== undefined) checkWithin(scope, limit);

  const changed = changedFields(key, wanted);
  if (Object.keys(changed.after).length === 0) return key;
  await tx
    .update(apiKeys)
    .set({ ...fields, updatedAt: sql`now()` })
    .where(eq(apiKeys.id, id));
  await audit(tx, actor, {
    action: "api_key.update",
    targetUserId: key.userId,
    targetApiKeyId: id,
    ...changed,
  });
  return readKey(tx, id);
}

/** Revokes keys that are locked and not revoked. */
async function revoke(
  tx: Executor,
  keys: readonly { id: string; userId: bigint }[],
  { reason, note }: Revocation,
  actor: Actor,
): Promise<void> {
  const revoked = { revocationReason: reason, revocationNote: note || null };
  for (let i = 0; i < keys.length; i += batchSize) {
    const batch = keys.slice(i, i + batchSize);
    const [row] = await tx
      .update(apiKeys)
      .set({ ...revoked, revokedAt: sql`now()`, updatedAt: sql`now()` })
      .where(
        inArray(
          apiKeys.id,
          batch.map(({ id }) => id),
        ),
      )
      .returning({ revokedAt: apiKeys.revokedAt });
    const after = {
      revoked_at: row?.revokedAt,
      revocation_reason: reason,
      ...(note !== "" && { revocation_note: note }),
    };
    await auditAll(
      tx,
      actor,
      batch.map(({ id, userId }) => ({
        action: "api_key.revoke",
        targetUserId: userId,
        targetApiKeyId: id,
        before: { revoked_at: null },
        after,
      })),
    );
  }
}

/** Bounds the parameters of one statement. */
const batchSize = 1000;
