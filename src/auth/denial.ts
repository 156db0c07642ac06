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
  UNAVAILABLE: Code.Unavailable,
};

/**
 * The error for a verdict that refused. Carries a google.rpc.ErrorInfo (reason,
 * domain "latchkey") and, when unauthenticated, `www-authenticate` (RFC 9110,
 * section 11.6.1).
 *
 * MALFORMED and UNKNOWN are told alike, reason included: a guesser must not
 * learn which of the two a string was.
 */
export function denialError(verdict: Verdict & { denial: DenialReason }, apiKeyHeader: string): ConnectError {
  const reason =
    verdict.denial === "MALFORMED" || verdict.denial === "UNKNOWN" ? "INVALID_API_KEY" : verdict.denial;
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
    case "UNAVAILABLE":
      return "the API key could not be checked just now: try again";
  }
}
