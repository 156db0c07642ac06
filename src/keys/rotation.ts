/** Rotation: a new key with the grants and settings of an old one, which lives on for a while. */
import { eq, sql } from "drizzle-orm";
import { type Actor, audit } from "../db/audit.ts";
import type { Executor } from "../db/client.ts";
import { apiKeys } from "../db/schema.ts";
import { checkWithin, holdKey } from "./caller.ts";
import { changedFields } from "./changed-fields.ts";
import { findMade, type OnceOnly, remember, takeTurns } from "./idempotency.ts";
import { type ApiKeyRecord, readKey, scopeOf, statusOf } from "./record.ts";
import { KeyStateError } from "./refusal.ts";
import { checkUser, insertApiKey } from "./store.ts";

export interface Rotation {
  /** Of the new token: base64, see `hashToken`. */
  readonly hash: string;
  readonly start: string;
  /** How long the old key lives on. */
  readonly graceMs: number;
  readonly now: Date;
}

export interface RotatedKeys {
  readonly key: ApiKeyRecord;
  readonly rotatedFrom: ApiKeyRecord;
  /** When an earlier sending of the same request rotated the key; undefined: this one did. */
  readonly madeAt: Date | undefined;
}

/**
 * Rotates a key within a transaction. Undefined: there is no such key. Rejects with
 * `ExceedsCallerError` where the key has more than the caller's own, which would
 * else be handed the token of it; with `KeyStateError` where it is not active or was
 * rotated before, and with `UserDisabledError`. Of two at once one wins.
 */
export async function rotateApiKey(
  tx: Executor,
  id: string,
  rotation: Rotation,
  actor: Actor,
  once?: OnceOnly,
): Promise<RotatedKeys | undefined> {
  if (once !== undefined) await takeTurns(tx, once);
  const held = await holdKey(tx, id, actor);
  if (held === undefined) return undefined;
  const { key: old, owner, limit } = held;
  if (actor.apiKeyId !== id) checkWithin(scopeOf(old), limit);
  const made = once && (await findMade(tx, once));
  if (made !== undefined) return { key: made.key, rotatedFrom: old, madeAt: made.at };
  checkState(old, rotation.now);
  checkUser(owner, old.userId);

  const key = await insertApiKey(
    tx,
    {
      userId: old.userId,
      name: old.name,
      description: old.description,
      type: old.type,
      hash: rotation.hash,
      start: rotation.start,
      expiresAt: old.expiresAt,
      allowedMethods: old.allowedMethods,
      allowedAddresses: old.allowedAddresses,
      canVerify: old.canVerify,
      rotatedFrom: id,
    },
    actor,
  );
  if (once !== undefined) await remember(tx, once, key.id);
  return { key, rotatedFrom: await endAfterGrace(tx, old, rotation, actor), madeAt: undefined };
}

function checkState(key: ApiKeyRecord, now: Date): void {
  const { id, expiresAt, revokedAt, rotatedTo } = key;
  const status = statusOf(key, now);
  if (status === "revoked")
    throw new KeyStateError(`API key ${id} was revoked at ${revokedAt?.toISOString()}`);
  // Before the expiry, which rotation itself brings about.
  if (rotatedTo !== null) throw new KeyStateError(`API key ${id} was rotated already, into ${rotatedTo}`);
  if (status === "expired") throw new KeyStateError(`API key ${id} expired at ${expiresAt?.toISOString()}`);
}

async function endAfterGrace(
  tx: Executor,
  old: ApiKeyRecord,
  { graceMs, now }: Rotation,
  actor: Actor,
): Promise<ApiKeyRecord> {
  const graceEnd = new Date(now.getTime() + graceMs);
  const expiresAt = old.expiresAt !== null && old.expiresAt < graceEnd ? old.expiresAt : graceEnd;
  await tx.update(apiKeys).set({ expiresAt, updatedAt: sql`now()` }).where(eq(apiKeys.id, old.id));
  const ended = await readKey(tx, old.id);
  if (ended === undefined) throw new Error("a key that is locked is not there");
  await audit(tx, actor, {
    action: "api_key.rotate",
    targetUserId: old.userId,
    targetApiKeyId: old.id,
    ...changedFields(old, ended),
  });
  return ended;
}
