/** Who may make a user staff: one whose own credential is not limited, since it could act as that user next. */
import { eq, sql } from "drizzle-orm";
import type { Actor } from "../db/audit.ts";
import type { Executor } from "../db/client.ts";
import { apiKeys, users } from "../db/schema.ts";

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
 * methods, allowed addresses and expiry. Rejects with {@link CredentialRefusedError}.
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
  if (actor.apiKeyId === undefined) return;

  const [key] = await tx
    .select({
      allowedMethods: apiKeys.allowedMethods,
      allowedAddresses: apiKeys.allowedAddresses,
      // The transaction may have waited for locks since it began: now() would be then.
      hasEnded: sql<boolean>`${apiKeys.revokedAt} IS NOT NULL OR coalesce(${apiKeys.expiresAt} <= clock_timestamp(), false)`,
    })
    .from(apiKeys)
    .where(eq(apiKeys.id, actor.apiKeyId))
    .for("share");
  if (key === undefined || key.hasEnded) throw new CredentialRefusedError("ended");
  const anyMethod = key.allowedMethods.length === 0 || key.allowedMethods.includes("*");
  if (!anyMethod || key.allowedAddresses.length > 0 || (await expires(tx, actor.apiKeyId))) {
    throw new CredentialRefusedError("limited");
  }
}

/**
 * Whether a key's rights end by time. A key that was rotated has an expiry for its
 * grace period: what it stands for is its newest successor that is not revoked.
 */
async function expires(tx: Executor, apiKeyId: string): Promise<boolean> {
  const [newest] = await tx.execute<{ expires: boolean }>(sql`
    WITH RECURSIVE line AS (
      SELECT id, expires_at, revoked_at, 0 AS rotations FROM ${apiKeys} WHERE id = ${apiKeyId}
      UNION ALL
      SELECT next.id, next.expires_at, next.revoked_at, rotations + 1
      FROM line JOIN ${apiKeys} next ON next.rotated_from = line.id
    )
    SELECT expires_at IS NOT NULL AS expires FROM line WHERE revoked_at IS NULL
    ORDER BY rotations DESC LIMIT 1`);
  return newest?.expires ?? true;
}
