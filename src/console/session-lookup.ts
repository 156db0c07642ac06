/** Sessions as verdicts look them up. */
import { sql } from "drizzle-orm";
import { createGrant, type Grant } from "../auth/grant.ts";
import type { Database } from "../db/client.ts";
import { storedRange } from "../keys/record.ts";
import type { SessionLife } from "./session-store.ts";

/**
 * Creates the look-up of a verdict. What it finds it notes as used, at most every half
 * a minute, and moves its end on. It waits for nobody: of two at once one does that.
 */
export function createSessionLookup(
  db: Database,
  { maxIdleMs }: SessionLife,
): (hashes: readonly string[]) => Promise<Map<string, Grant>> {
  return async (hashes) => {
    // As Postgres writes an array: see `ApiKeyStore.readGrants`.
    const array = `{${hashes.map((hash) => `"\\\\x${Buffer.from(hash, "base64").toString("hex")}"`).join()}}`;
    const wanted = sql`${array}::bytea[]`;
    const rows = await db.execute<SessionRow>(sql`
      WITH due AS MATERIALIZED (
        SELECT id FROM sessions
        WHERE hash = ANY (${wanted}) AND expires_at > now() AND seen_at < now() - interval '30 seconds'
        FOR NO KEY UPDATE SKIP LOCKED
      ), used AS (
        UPDATE sessions SET seen_at = now(), expires_at = least(ends_at, now() + make_interval(secs => ${maxIdleMs / 1000}::float8))
        WHERE id IN (SELECT id FROM due)
        RETURNING id, expires_at
      )
      SELECT encode(s.hash, 'base64') AS hash, s.id,
        extract(epoch FROM coalesce(used.expires_at, s.expires_at)) * 1000 AS session_expires_ms,
        u.id AS user_id, u.username, u.is_staff, u.is_active, k.id AS api_key_id,
        extract(epoch FROM k.expires_at) * 1000 AS key_expires_ms,
        extract(epoch FROM k.revoked_at) * 1000 AS revoked_ms,
        coalesce(k.allowed_methods, '{}') AS allowed_methods,
        coalesce(k.allowed_addresses, '{}') AS allowed_addresses,
        coalesce(k.can_verify, false) AS can_verify
      FROM sessions s
      JOIN users u ON u.id = s.user_id
      LEFT JOIN api_keys k ON k.id = s.api_key_id
      LEFT JOIN used ON used.id = s.id
      WHERE s.hash = ANY (${wanted})`);
    return new Map(
      rows.map((row) => [
        row.hash,
        createGrant({
          apiKeyId: row.api_key_id ?? undefined,
          userId: BigInt(row.user_id),
          username: row.username,
          isStaff: row.is_staff,
          isActive: row.is_active,
          expiresAtMs: row.key_expires_ms === null ? undefined : Number(row.key_expires_ms),
          revokedAtMs: row.revoked_ms === null ? undefined : Number(row.revoked_ms),
          allowedMethods: row.allowed_methods,
          allowedAddresses: row.allowed_addresses.map(storedRange),
          canVerify: row.can_verify,
          session: { id: row.id, expiresAtMs: Number(row.session_expires_ms) },
        }),
      ]),
    );
  };
}

type SessionRow = {
  hash: string;
  id: string;
  session_expires_ms: string;
  user_id: string;
  username: string;
  is_staff: boolean;
  is_active: boolean;
  api_key_id: string | null;
  key_expires_ms: string | null;
  revoked_ms: string | null;
  allowed_methods: string[];
  allowed_addresses: string[];
  can_verify: boolean;
};
