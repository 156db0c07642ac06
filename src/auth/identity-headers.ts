/** Who calls, as headers for the server behind a proxy; and what of a request must not reach it. */
import type { Principal } from "./principal.ts";
import { withoutSessions } from "./session-cookie.ts";

/** Every name that tells an identity begins with it: whoever finds one behind a proxy may believe it. */
const identityPrefix = "x-latchkey-";

/** All that there are, for those who must remove what the request itself brought. */
export const identityHeaderNames = [
  "x-latchkey-user-id",
  "x-latchkey-username",
  "x-latchkey-is-staff",
  "x-latchkey-credential-kind",
  "x-latchkey-api-key-id",
] as const;

export type IdentityHeader = (typeof identityHeaderNames)[number];

/**
 * The headers that tell a principal; none for an anonymous caller. A username's
 * characters beyond ASCII are percent-encoded as UTF-8 (RFC 3986, section 2.1).
 */
export function identityHeaders(principal: Principal | undefined): Partial<Record<IdentityHeader, string>> {
  if (principal === undefined) return {};
  const { userId, username, isStaff, credentialKind, apiKeyId } = principal;
  return {
    "x-latchkey-user-id": String(userId),
    "x-latchkey-username": encodeURI(username),
    "x-latchkey-is-staff": String(isStaff),
    "x-latchkey-credential-kind": credentialKind,
    ...(apiKeyId !== undefined && { "x-latchkey-api-key-id": apiKeyId }),
  };
}

/**
 * The headers of a request that must not reach the server behind: the token or session, and
 * what the sender made to look like an identity. Some servers (CGI, WSGI) take
 * `_` for `-`, so that is looked through too.
 */
export function headersToRemove(
  sent: ReadonlyMap<string, string>,
  identity: Partial<Record<IdentityHeader, string>>,
  apiKeyHeader: string,
): string[] {
  const remove: string[] = identityHeaderNames.filter((name) => identity[name] === undefined);
  for (const [name, value] of sent) {
    const plain = name.toLowerCase().replaceAll("_", "-");
    if (plain === apiKeyHeader || (plain === "authorization" && /(^|,)\s*bearer(\s|$)/i.test(value))) {
      remove.push(name);
    } else if (plain === "cookie" && withoutSessions(value) === undefined) {
      remove.push(name);
    } else if (plain.startsWith(identityPrefix) && !(name in identity)) {
      remove.push(name);
    }
  }
  return [...new Set(remove)];
}
