/**
 * Who may change other users: staff. Who may make a user staff: one whose own credential
 * is not limited besides, since it could act as that user next.
 */
import { eq, sql } from "drizzle-orm";
import type { Actor } from "../db/audit.ts";
import type { Executor } from "../db/client.ts";
import { apiKeys, users } from "../db/schema.ts";
import { callerScope } from "../keys/caller.ts";
import { excessOf, unlimited } from "../keys/scope.ts";

const messages = {
  ended: "the credential that this was called with has ended meanwhile",
  not_staff: "this needs a staff user's API key",
  limited:
    "making a user staff needs a credential that is not limited itself: a key without allowed methods, allowed addresses and expiry",
};

/** The caller's credential does not suffice, or no longer does. */
export class CredentialRefusedError extends Error {
  override name = "CredentialRefusedError";
  readonly reason: keyof typeof messages;

  constructor(reason: keyof typeof messages) {
    super(messages[reason]);
    this.reason = reason;
  }
}

/**
 * Checks, and holds until the transaction's end, that the actor is staff by a
 * credential that is not limited: no key (the secret key), or one without allowed
 * methods, allowed addresses and expiry. Rejects with {@link CredentialRefusedError},
 * and with `CallerEndedError` for a key that has ended.
 *
 * Locks the user before the key, as a deletion does.
 */
export async function checkMayMakeStaff(tx: Executor, actor: Actor): Promise<void> {
  if (actor.userId === undefined) return;
  const [user] = await tx
    .select({ isStaff: users.isStaff, isActive: users.isActive })
    .from(users)
    .where(eq(users.id, actor.userId))
    .for("share");
  if (user === undefined || !user.isActive) throw new CredentialRefusedError("ended");
  if (!user.isStaff) throw new CredentialRefusedError("not_staff");
  const scope = await callerScope(tx, actor);
  // Whether it may verify keys is no matter: staff may.
  if (excessOf({ ...unlimited, canVerify: false }, scope) !== undefined) {
    throw new CredentialRefusedError("limited");
  }
}

/**
 * Checks that the actor may still change another user than its own: it was staff when
 * the call was let in. Rejects with {@link CredentialRefusedError}. Holds nobody: to be
 * called once the transaction waits for nothing more.
 */
export async function checkStillStaff(tx: Executor, actor: Actor, changedId: bigint): Promise<void> {
  if (actor.userId === undefined || actor.userId === changedId) return;
  const [user] = await tx
    .select({
      isStaff: users.isStaff,
      isActive: users.isActive,
      hasKey: sql<boolean>`${apiKeys.revokedAt} IS NULL AND coalesce(${apiKeys.expiresAt} > clock_timestamp(), ${apiKeys.id} IS NOT NULL)`,
    })
    .from(users)
    .leftJoin(apiKeys, actor.apiKeyId === undefined ? sql`false` : eq(apiKeys.id, actor.apiKeyId))
    .where(eq(users.id, actor.userId));
  const ended = !user?.isActive || (actor.apiKeyId !== undefined && !user.hasKey);
  if (ended) throw new CredentialRefusedError("ended");
  if (!user.isStaff) throw new CredentialRefusedError("not_staff");
}
