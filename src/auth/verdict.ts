/** Policy and credential together: the one function that every entrance asks. */
import { isInRanges } from "./address-range.ts";
import type { Credential } from "./credential.ts";
import { type Grant, type GrantSource, GrantsUnavailableError, type StaffUser } from "./grant.ts";
import type { MethodName } from "./method-name.ts";
import { matchesAny } from "./method-pattern.ts";
import type { AccessRequirement } from "./policy.ts";
import type { Principal } from "./principal.ts";

/** Why a verdict refused. */
export type DenialReason =
  | "MISSING"
  | "MALFORMED"
  | "UNKNOWN"
  | "REVOKED"
  | "EXPIRED"
  | "USER_DISABLED"
  | "STAFF_REQUIRED"
  | "METHOD_NOT_ALLOWED"
  | "ADDRESS_NOT_ALLOWED"
  | "CROSS_SITE"
  | "UNAVAILABLE";

/** What kind of credential came, whatever became of it. */
export type CredentialKind = "none" | "api_key" | "secret_key" | "session";

/** Whom the credential names, verified or not: for the request log, never for access. Of one that was verified, its principal. */
export interface Subject {
  readonly userId: bigint;
  readonly apiKeyId: string | undefined;
}

export interface Verdict {
  /** Undefined: the RPC may go on. */
  readonly denial: DenialReason | undefined;
  /** When the key was revoked, or it or the session expired, for those denials; milliseconds since the epoch. */
  readonly deniedSinceMs?: number | undefined;
  /** Undefined: anonymous. Also set where the principal is known but may not. */
  readonly principal: Principal | undefined;
  readonly subject: Subject | undefined;
  readonly credentialKind: CredentialKind;
}

export interface VerdictOptions {
  /** False: every method is open and nobody is looked up. */
  authEnabled: boolean;
  grants: GrantSource;
  /** Milliseconds since the epoch; default Date.now. */
  now?: () => number;
}

/** Who wants to call what, from where. */
export interface Question {
  readonly method: MethodName;
  /** What the method requires: see `Policy`. */
  readonly access: AccessRequirement;
  readonly credential: Credential;
  /** IP address; undefined where it is not known: a key with allowed addresses is then refused. */
  readonly peerAddress: string | undefined;
}

/**
 * Decides whether a credential may call a method. May be called concurrently;
 * answers without a promise when the grant is in memory. Never throws for a
 * missing grant source: that is the denial UNAVAILABLE.
 */
export type Decide = (question: Question) => Verdict | Promise<Verdict>;

const anonymous: Verdict = {
  denial: undefined,
  deniedSinceMs: undefined,
  principal: undefined,
  subject: undefined,
  credentialKind: "none",
};

export function createDecide(options: VerdictOptions): Decide {
  const { grants } = options;
  const now = options.now ?? Date.now;

  // What is in memory, as nearly all is, is answered without a closure: each call would leave several behind.
  function byGrant(question: Question, credential: LookedUp): Verdict | Promise<Verdict> {
    try {
      const found = find(credential, question.peerAddress);
      if (!(found instanceof Promise)) return conclude(question, verify(credential, found, question, now));
      return found.then(
        (later) => conclude(question, verify(credential, later, question, now)),
        (error) => failed(question, credential.kind, error),
      );
    } catch (error) {
      return failed(question, credential.kind, error);
    }
  }

  function find(credential: LookedUp, peerAddress: string | undefined) {
    if (credential.kind === "api_key") return grants.find(credential.hash, credential.foreign, peerAddress);
    return credential.hash === undefined ? undefined : grants.findSession(credential.hash, peerAddress);
  }

  async function byStaffUser(question: Question, user: Promise<StaffUser | undefined>): Promise<Verdict> {
    try {
      return conclude(question, verifySecretKey(await user));
    } catch (error) {
      return failed(question, "secret_key", error);
    }
  }

  function bySecretKey(question: Question): Verdict | Promise<Verdict> {
    try {
      const user = grants.firstStaffUser();
      if (user instanceof Promise) return byStaffUser(question, user);
      return conclude(question, verifySecretKey(user));
    } catch (error) {
      return failed(question, "secret_key", error);
    }
  }

  return (question) => {
    if (!options.authEnabled) return anonymous;
    const { credential } = question;
    switch (credential.kind) {
      case "none":
        return conclude(question, anonymous);
      case "malformed":
        return conclude(question, denied("MALFORMED", "api_key"));
      case "cross_site":
        return conclude(question, denied("CROSS_SITE", "session"));
      case "secret_key":
        return bySecretKey(question);
      case "api_key":
      case "session":
        return byGrant(question, credential);
    }
  };
}

type LookedUp = Extract<Credential, { kind: "api_key" | "session" }>;

/** The verdict where none can be had. Throws whatever else went wrong. */
function failed(question: Question, kind: CredentialKind, error: unknown): Verdict {
  if (!(error instanceof GrantsUnavailableError)) throw error;
  return conclude(question, denied("UNAVAILABLE", kind));
}

function verify(
  credential: LookedUp,
  grant: Grant | undefined,
  question: Question,
  now: () => number,
): Verdict {
  if (grant !== undefined) return verifyGrant(grant, credential.kind, question, now);
  const isMalformed = credential.kind === "api_key" && credential.foreign;
  return denied(isMalformed ? "MALFORMED" : "UNKNOWN", credential.kind);
}

/** What the method requires of the verified credential. */
function conclude({ access: required }: Question, verified: Verdict): Verdict {
  const { denial, principal } = verified;
  if (required === "public") {
    // A bad credential counts as none; a good one, even of a key that leaves this method out, names its principal.
    if (denial === undefined) return verified;
    return { ...verified, denial: undefined, deniedSinceMs: undefined };
  }
  if (denial !== undefined || required === "optional") return verified;
  if (principal === undefined) return { ...verified, denial: "MISSING" };
  if (required === "staff" && !principal.isStaff) return { ...verified, denial: "STAFF_REQUIRED" };
  return verified;
}

function verifySecretKey(user: StaffUser | undefined): Verdict {
  if (user === undefined) return denied("UNKNOWN", "secret_key");
  return {
    denial: undefined,
    principal: {
      userId: user.userId,
      username: user.username,
      isStaff: true,
      credentialKind: "secret_key",
      apiKeyId: undefined,
      canVerify: true,
    },
    subject: { userId: user.userId, apiKeyId: undefined },
    credentialKind: "secret_key",
  };
}

// A principal is passed on and not looked into, and the clock is asked only where it matters: among a million keys
// each would be a wait for memory, for what is looked into is in no cache, and a clock waits for all that was asked for before.
function verifyGrant(
  { principal, terms }: Grant,
  kind: "api_key" | "session",
  { method, peerAddress }: Question,
  now: () => number,
): Verdict {
  const { expiresAtMs, revokedAtMs, isActive, allowedMethods, allowedAddresses } = terms;
  if (revokedAtMs !== undefined) return denied("REVOKED", kind, principal, revokedAtMs);
  if (expiresAtMs !== undefined && expiresAtMs <= now()) {
    return denied("EXPIRED", kind, principal, expiresAtMs);
  }
  if (!isActive) return denied("USER_DISABLED", kind, principal);
  // Somewhere else than where it belongs, a token says nothing of who sends it.
  if (allowedAddresses.length > 0 && !isInRanges(allowedAddresses, peerAddress ?? "")) {
    return denied("ADDRESS_NOT_ALLOWED", kind, principal);
  }
  const isAllowed = allowedMethods.length === 0 || matchesAny(allowedMethods, method.service, method.name);
  return {
    denial: isAllowed ? undefined : "METHOD_NOT_ALLOWED",
    deniedSinceMs: undefined,
    principal,
    subject: principal,
    credentialKind: kind,
  };
}

function denied(
  denial: DenialReason,
  credentialKind: CredentialKind,
  principal?: Principal,
  deniedSinceMs?: number,
): Verdict {
  const subject = principal && { userId: principal.userId, apiKeyId: principal.apiKeyId };
  return { denial, deniedSinceMs, principal: undefined, subject, credentialKind };
}
