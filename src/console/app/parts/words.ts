/** What the console calls the values of the API's enums. */

import { AccessLevel } from "../../../gen/latchkey/v1/access_pb.js";
import { ApiKeyStatus, ApiKeyType, RevocationReason } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import { CredentialKind, DenialReason } from "../../../gen/latchkey/v1/verdict_pb.js";

export const keyTypeWords: Record<ApiKeyType, string> = {
  [ApiKeyType.UNSPECIFIED]: "Any type",
  [ApiKeyType.SERVICE]: "Service",
  [ApiKeyType.CLI]: "CLI",
  [ApiKeyType.WEBHOOK]: "Webhook",
  [ApiKeyType.INTERNAL]: "Internal",
  [ApiKeyType.DEVELOPMENT]: "Development",
};

export const keyStatusWords: Record<ApiKeyStatus, string> = {
  [ApiKeyStatus.UNSPECIFIED]: "Any status",
  [ApiKeyStatus.ACTIVE]: "Active",
  [ApiKeyStatus.EXPIRED]: "Expired",
  [ApiKeyStatus.REVOKED]: "Revoked",
};

export const revocationWords: Record<RevocationReason, string> = {
  [RevocationReason.UNSPECIFIED]: "No reason given",
  [RevocationReason.UNUSED]: "Unused: nobody needs it any more",
  [RevocationReason.ROTATED]: "Rotated: another key has taken its place",
  [RevocationReason.COMPROMISED]: "Compromised: its token may be known to someone else",
  [RevocationReason.USER_ENDED]: "User ended: its user has left or lost access",
};

export const denialWords: Record<DenialReason, string> = {
  [DenialReason.UNSPECIFIED]: "Not refused",
  [DenialReason.MISSING]: "Missing",
  [DenialReason.MALFORMED]: "Malformed",
  [DenialReason.UNKNOWN]: "Unknown",
  [DenialReason.REVOKED]: "Revoked",
  [DenialReason.EXPIRED]: "Expired",
  [DenialReason.USER_DISABLED]: "User disabled",
  [DenialReason.STAFF_REQUIRED]: "Staff required",
  [DenialReason.METHOD_NOT_ALLOWED]: "Method not allowed",
  [DenialReason.UNAVAILABLE]: "Unavailable",
  [DenialReason.ADDRESS_NOT_ALLOWED]: "Address not allowed",
  [DenialReason.CROSS_SITE]: "Cross-site",
};

/** What a denial reason means, and what to do about it. */
export const denialHelp: Record<DenialReason, string> = {
  [DenialReason.UNSPECIFIED]: "",
  [DenialReason.MISSING]: "The method needs a credential and none came. Send the key's token with the call.",
  [DenialReason.MALFORMED]: "What came is not a token, or two different credentials came at once.",
  [DenialReason.UNKNOWN]: "No key has this token. It may be of another server, or mistyped.",
  [DenialReason.REVOKED]: "The key was revoked. Its client needs another key.",
  [DenialReason.EXPIRED]:
    "The key has expired. Move its expiry into the future, or give its client another key.",
  [DenialReason.USER_DISABLED]: "The key's user is disabled. The key works again once the user is enabled.",
  [DenialReason.STAFF_REQUIRED]: "The method is for staff, and the key's user is not.",
  [DenialReason.METHOD_NOT_ALLOWED]:
    "The key's allowed methods leave this one out. Widen them, or use another key.",
  [DenialReason.UNAVAILABLE]: "No verdict could be had, because the database did not answer.",
  [DenialReason.ADDRESS_NOT_ALLOWED]: "The key's allowed addresses leave out where the call came from.",
  [DenialReason.CROSS_SITE]: "Another site's page sent a session's cookie.",
};

export const credentialWords: Record<CredentialKind, string> = {
  [CredentialKind.UNSPECIFIED]: "Not known",
  [CredentialKind.NONE]: "None",
  [CredentialKind.API_KEY]: "API key",
  [CredentialKind.SECRET_KEY]: "Secret key",
  [CredentialKind.SESSION]: "Session",
};

export const accessWords: Record<AccessLevel, string> = {
  [AccessLevel.UNSPECIFIED]: "Not declared",
  [AccessLevel.PUBLIC]: "Public",
  [AccessLevel.OPTIONAL]: "Optional",
  [AccessLevel.AUTHENTICATED]: "Authenticated",
  [AccessLevel.STAFF]: "Staff",
};

/** Codes as the server spells them, those of success and of the caller's mistakes first. */
export const codes = [
  "ok",
  "invalid_argument",
  "not_found",
  "already_exists",
  "permission_denied",
  "unauthenticated",
  "failed_precondition",
  "resource_exhausted",
  "aborted",
  "out_of_range",
  "unimplemented",
  "canceled",
  "deadline_exceeded",
  "unavailable",
  "internal",
  "unknown",
  "data_loss",
] as const;
