/** What `auth/` asks of those who keep keys and users. It knows no more of them. */
import type { AddressRange } from "./address-range.ts";
import type { Principal } from "./principal.ts";

/**
 * What a key, or a session that it signed in, grants, and whether it still does. The
 * answer to a look-up by hash.
 */
export interface Grant {
  /** The verdict where nothing stands against it, which says whom it lets in: all calls of a grant share it. */
  readonly passed: Passed;
  /** False: the user is disabled. */
  readonly isActive: boolean;
  /** When the key or the session expires, whichever is first. Milliseconds since the epoch; undefined: never. */
  readonly expiresAtMs: number | undefined;
  readonly revokedAtMs: number | undefined;
  /** Method patterns; empty: all that the user may call. */
  readonly allowedMethods: readonly string[];
  /** Empty: from anywhere. */
  readonly allowedAddresses: readonly AddressRange[];
}

/** A `Verdict` that refuses nothing. */
export interface Passed {
  readonly denial: undefined;
  readonly deniedSinceMs: undefined;
  readonly principal: Principal;
  /** Whose it is: of what is refused too, which has no principal. */
  readonly subject: Pick<Principal, "userId" | "apiKeyId">;
  readonly credentialKind: "api_key" | "session";
}

/** What is stored of a key and its user, and of the session. */
export interface GrantFacts extends Omit<Grant, "passed"> {
  /** Undefined: of a session that the secret key signed in. */
  readonly apiKeyId: string | undefined;
  readonly userId: bigint;
  readonly username: string;
  readonly isStaff: boolean;
  /** May ask for verdicts on other keys, though its user is not staff. */
  readonly canVerify: boolean;
  /** Only of a session: the rest is what the key behind it grants. */
  readonly session?: { readonly id: string; readonly expiresAtMs: number };
}

const unrestricted: readonly never[] = Object.freeze([]);

/**
 * Creates a grant. There may be a million of them in memory: all have one shape, and
 * what most have in common is there once.
 */
export function createGrant(facts: GrantFacts): Grant {
  const { apiKeyId, userId, username, isStaff, session, expiresAtMs } = facts;
  const credentialKind = session === undefined ? "api_key" : "session";
  const principal: Principal = {
    userId,
    username,
    isStaff,
    credentialKind,
    apiKeyId,
    canVerify: isStaff || facts.canVerify,
    ...(session && { sessionId: session.id }),
  };
  return {
    passed: {
      denial: undefined,
      deniedSinceMs: undefined,
      principal,
      subject: { userId, apiKeyId },
      credentialKind,
    },
    isActive: facts.isActive,
    expiresAtMs: session === undefined ? expiresAtMs : Math.min(expiresAtMs ?? Infinity, session.expiresAtMs),
    revokedAtMs: facts.revokedAtMs,
    allowedMethods: facts.allowedMethods.length === 0 ? unrestricted : facts.allowedMethods,
    allowedAddresses: facts.allowedAddresses.length === 0 ? unrestricted : facts.allowedAddresses,
  };
}

/** The user whom the secret key signs in. */
export interface StaffUser {
  readonly userId: bigint;
  readonly username: string;
}

/** No verdict can be had: the database does not answer and what is cached is too old. */
export class GrantsUnavailableError extends Error {
  override name = "GrantsUnavailableError";
}

/**
 * Looks grants up. May be called concurrently. `find` answers at
 * once, without a promise, from memory. Throws or rejects with {@link GrantsUnavailableError}.
 */
export interface GrantSource {
  /**
   * The grant of the key with this hash (see `hashToken`); undefined: there is no
   * such key. A foreign token is not of our shape: only an imported key can have
   * it, so where there is none, nothing is looked up. Where many look-ups wait, those
   * of each address have their turn.
   */
  find(
    hash: string,
    foreign: boolean,
    address?: string | undefined,
  ): Grant | undefined | Promise<Grant | undefined>;
  /** The grant of the session with this hash (see `SessionSecrets`); undefined: there is no such session. */
  findSession(hash: string, address?: string | undefined): Grant | undefined | Promise<Grant | undefined>;
  /** The active staff user with the lowest id; undefined: there is none. */
  firstStaffUser(): StaffUser | undefined | Promise<StaffUser | undefined>;
  /** Calls back after each change that may turn a verdict. Returns how to stop. */
  onChange(listener: (change: GrantChange) => void): () => void;
}

/**
 * What changed: one key, one user, one session, or, after a gap in what could be heard,
 * anything. What is new is told apart: it turns no verdict on what was there.
 * "unheard" is no change: what changes from now on may not be told, until "all".
 */
export type GrantChange =
  | { readonly kind: "key"; readonly apiKeyId: string }
  | { readonly kind: "user"; readonly userId: bigint }
  | { readonly kind: "session"; readonly sessionId: string }
  | { readonly kind: "new_key" }
  | { readonly kind: "new_user" }
  | { readonly kind: "all" }
  | { readonly kind: "unheard" };
