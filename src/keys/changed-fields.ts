/** What the audit log tells of a change to a key. */
import type { ApiKeyRecord } from "./record.ts";

/** What can change of a key, by its name in the audit log. Never a token, never a hash. */
const audited = {
  name: "name",
  description: "description",
  type: "type",
  expiresAt: "expires_at",
  allowedMethods: "allowed_methods",
  allowedAddresses: "allowed_addresses",
  canVerify: "can_verify",
  revokedAt: "revoked_at",
  revocationReason: "revocation_reason",
  revocationNote: "revocation_note",
  rotatedFrom: "rotated_from",
  rotatedTo: "rotated_to",
} as const satisfies Partial<Record<keyof ApiKeyRecord, string>>;

/** Set later in a key's life, or on some keys alone: left out of the event of a new one that has none. */
const rare: ReadonlySet<string> = new Set<keyof typeof audited>([
  "revokedAt",
  "revocationReason",
  "revocationNote",
  "rotatedFrom",
  "rotatedTo",
]);

/**
 * The fields that differ between a key before and after a change, and what of them
 * was and is. `before` undefined: the key is new. Empty where nothing differs.
 */
export function changedFields(
  before: ApiKeyRecord | undefined,
  after: ApiKeyRecord,
): { before: Record<string, unknown>; after: Record<string, unknown> } {
  const changed = { before: {} as Record<string, unknown>, after: {} as Record<string, unknown> };
  for (const [field, name] of Object.entries(audited) as [keyof typeof audited, string][]) {
    const is = after[field];
    if (before === undefined) {
      if (is !== null || !rare.has(field)) changed.after[name] = is;
    } else if (JSON.stringify(before[field]) !== JSON.stringify(is)) {
      changed.before[name] = before[field];
      changed.after[name] = is;
    }
  }
  return changed;
}
