/** Whose records a caller may list. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Principal } from "../auth/principal.ts";
import { invalid } from "./validate.ts";

/**
 * Whose records a listing shows, given the user that was asked for (0: whoever
 * may be seen). Undefined: everyone's. Throws `permission_denied`.
 */
export function visibleUser(asked: bigint, principal: Principal): bigint | undefined {
  if (asked < 0n) throw invalid("user_id must be a user's id, or 0 for every user that you may see");
  if (principal.isStaff) return asked === 0n ? undefined : asked;
  if (asked !== 0n && asked !== principal.userId) {
    throw new ConnectError(`only staff may list what belongs to user ${asked}`, Code.PermissionDenied);
  }
  return principal.userId;
}
