/** What a request carries to identify its caller, before anyone has verified it. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { ReadHeader } from "./read-header.ts";
import { readSessionCookie } from "./session-cookie.ts";
import type { SessionSecrets } from "./session-secret.ts";
import { hashToken, isForeignToken, isToken } from "./token.ts";

/** A credential as it was read: at most its hash, never the token. */
export type Credential =
  | { readonly kind: "none" }
  | { readonly kind: "malformed" }
  | { readonly kind: "secret_key" }
  /** Foreign: not of our tokens' shape, so that only an imported key can have it. */
  | { readonly kind: "api_key"; readonly hash: string; readonly foreign: boolean }
  /** Undefined hash: of no session's shape. */
  | { readonly kind: "session"; readonly hash: string | undefined }
  /** A session's cookie, without proof that our own page sent it. */
  | { readonly kind: "cross_site" };

export interface CredentialOptions {
  /** Lower case. */
  apiKeyHeader: string;
  tokenPrefix: string;
  /** Undefined: none is accepted. */
  secretKey: string | undefined;
  /** Undefined: cookies are not read. */
  sessions?: SessionSecrets | undefined;
}

/**
 * Reads the credential of a request: the API key header, else
 * `authorization: Bearer …` (RFC 6750, section 2.1; the scheme without regard to
 * case, RFC 9110, section 11.1). The same one in both is one; two different ones
 * are malformed. Another authorization scheme is none of ours and counts as none.
 *
 * Where neither came, a session's cookie counts. Beside them it does not: a browser
 * adds it unasked, so that it is not a second opinion on who calls.
 */
export function createCredentialReader(options: CredentialOptions): (header: ReadHeader) => Credential {
  const { apiKeyHeader, tokenPrefix } = options;
  const secretDigest = options.secretKey === undefined ? undefined : digest(options.secretKey);

  return (header) => {
    const fromHeader = header(apiKeyHeader) ?? undefined;
    const fromBearer = bearer(header("authorization"));
    if (fromHeader !== undefined && fromBearer !== undefined && fromHeader !== fromBearer) {
      return { kind: "malformed" };
    }
    const value = fromHeader ?? fromBearer;
    if (value === undefined) return options.sessions ? fromCookie(header, options.sessions) : none;
    // Digests have one length whatever was sent, and are compared in constant time.
    if (secretDigest !== undefined && timingSafeEqual(digest(value), secretDigest)) {
      return { kind: "secret_key" };
    }
    const foreign = !isToken(value, tokenPrefix);
    if (foreign && !isForeignToken(value)) return { kind: "malformed" };
    return { kind: "api_key", hash: hashToken(value), foreign };
  };
}

const none: Credential = { kind: "none" };

function fromCookie(header: ReadHeader, sessions: SessionSecrets): Credential {
  const cookie = readSessionCookie(header);
  if (cookie === undefined) return none;
  if (!cookie.isSameOrigin) return { kind: "cross_site" };
  return { kind: "session", hash: cookie.value === undefined ? undefined : sessions.hash(cookie.value) };
}

/** The value after "Bearer"; "" when the scheme came alone, which is a malformed credential, not none. */
function bearer(authorization: string | null | undefined): string | undefined {
  const match = authorization?.match(/^bearer(?:\s+|$)(.*)$/i);
  return match?.[1];
}

function digest(value: string): Buffer {
  return createHash("sha256").update(value).digest();
}
