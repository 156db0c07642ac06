/** How a refusal is told to the caller. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import type { DenialReason, Verdict } from "./verdict.ts";

const codes: Readonly<Record<DenialReason, Code>> = {
  MISSING: Code.Unauthenticated,
  MALFORMED: Code.Unauthenticated,
  UNKNOWN: Code.Unauthenticated,
  REVOKED: Code.Unauthenticated,
  EXPIRED: Code.Unauthenticated,
  USER_DISABLED: Code.Unauthenticated,
  STAFF_REQUIRED: Code.PermissionDenied,
  METHOD_NOT_ALLOWED: Code.PermissionDenied,
  ADDRESS_NOT_ALLOWED: Code.PermissionDenied,
  CROSS_SITE: Code.PermissionDenied,
  UNAVAILABLE: Code.Unavailable,
};

/** A reason as it is told to callers. */
export type ToldReason =
  | Exclude<DenialReason, "MALFORMED" | "UNKNOWN">
  | "INVALID_API_KEY"
  | "INVALID_SESSION";

/**
 * The error for a verdict that refused. Carries a google.rpc.ErrorInfo (reason,
 * domain "latchkey") and, when unauthenticated, `www-authenticate` (RFC 9110,
 * section 11.6.1).
 *
 * MALFORMED and UNKNOWN are told alike, reason included: a guesser must not
 * learn which of the two a string was. Of a session they are INVALID_SESSION.
 */
export function denialError(verdict: Verdict & { denial: DenialReason }, apiKeyHeader: string): ConnectError {
  const invalid = verdict.credentialKind === "session" ? "INVALID_SESSION" : "INVALID_API_KEY";
  const reason: ToldReason =
    verdict.denial === "MALFORMED" || verdict.denial === "UNKNOWN" ? invalid : verdict.denial;
  const code = codes[verdict.denial];
  const since = sinceOf(verdict);
  const header =
    code === Code.Unauthenticated
      ? { "www-authenticate": verdict.denial === "MISSING" ? "Bearer" : 'Bearer error="invalid_token"' }
      : undefined;
  return new ConnectError(denialMessage(verdict, apiKeyHeader), code, header, [
    { desc: ErrorInfoSchema, value: { reason, domain: "latchkey", metadata: since === "" ? {} : { since } } },
  ]);
}

function sinceOf(verdict: Verdict): string {
  return verdict.deniedSinceMs === undefined ? "" : new Date(verdict.deniedSinceMs).toISOString();
}

/** What the caller is told. */
function denialMessage(verdict: Verdict & { denial: DenialReason }, apiKeyHeader: string): string {
  const since = sinceOf(verdict);
  if (verdict.credentialKind === "session") return sessionMessage(verdict.denial, since);
  switch (verdict.denial) {
    case "MISSING":
      return `this method needs an API key: send its token in the ${apiKeyHeader} header, or as authorization: Bearer`;
    case "MALFORMED":
    case "UNKNOWN":
      return "invalid API key";
    case "REVOKED":
      return `this API key was revoked at ${since}`;
    case "EXPIRED":
      return `this API key expired at ${since}`;
    case "USER_DISABLED":
      return "the user of this API key is disabled";
    case "STAFF_REQUIRED":
      return "this method needs a staff user's API key";
    case "METHOD_NOT_ALLOWED":
      return "this API key may not call this method";
    case "ADDRESS_NOT_ALLOWED":
      return "this API key may not be used from this address";
    case "CROSS_SITE":
      return crossSite;
    case "UNAVAILABLE":
      return "the API key could not be checked just now: try again";
  }
}

const crossSite =
  "a session counts only in requests of this server's own page: for others send an API key; " +
  "if this page is the server's own, have the proxy before it pass on the Host header";

/** The same of a session, for the person who is signed in by it. */
function sessionMessage(denial: DenialReason, since: string): string {
  switch (denial) {
    case "MISSING":
    case "MALFORMED":
    case "UNKNOWN":
      return "this session has ended: sign in again";
    case "REVOKED":
      return `this session has ended, because its API key was revoked at ${since}: sign in with another`;
    case "EXPIRED":
      return `this session ended at ${since}: sign in again`;
    case "USER_DISABLED":
      return "the user of this session is disabled";
    case "STAFF_REQUIRED":
      return "this method needs a staff user";
    case "METHOD_NOT_ALLOWED":
      return "the API key of this session may not call this method";
    case "ADDRESS_NOT_ALLOWED":
      return "the API key of this session may not be used from this address";
    case "CROSS_SITE":
      return crossSite;
    case "UNAVAILABLE":
      return "the session could not be checked just now: try again";
  }
}
