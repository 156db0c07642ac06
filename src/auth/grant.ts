/** What `auth/` asks of those who keep keys and users. It knows no more of them. */
import type { AddressRange } from "./address-range.ts";
import type { Principal } from "./principal.ts";

/**
 * What a key, or a session that it signed in, grants, and whether it still does. The
 * answer to a look-up by hash.
 */
export interface Grant {
  /** Whom it lets in, where nothing stands against it. */
  readonly principal: Principal;
  readonly terms: Terms;
}

/** What a grant depends on. */
export interface Terms {
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

/** What is stored of a key and its user, and of the session. */
export interface GrantFacts extends Terms {
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

const nothing: readonly never[] = Object.freeze([]);
/** Of most keys: nothing ends them and nothing restricts them. */
const unconditional: Terms = Object.freeze({
  isActive: true,
  expiresAtMs: undefined,
  revokedAtMs: undefined,
  allowedMethods: nothing,
  allowedAddresses: nothing,
});

/**
 * Creates a grant. There may be a million of them in memory: terms that most have in
 * common are there once.
 */
export function createGrant(facts: GrantFacts): Grant {
  const { apiKeyId, userId, username, isStaff, session } = facts;
  const principal: Principal = {
    userId,
    username,
    isStaff,
    credentialKind: session === undefined ? "api_key" : "session",
    apiKeyId,
    canVerify: isStaff || facts.canVerify,
    ...(session && { sessionId: session.id }),
  };
  return { principal, terms: termsOf(facts) };
}

function termsOf({ isActive, revokedAtMs, allowedMethods, allowedAddresses, ...facts }: GrantFacts): Terms {
  const { session } = facts;
  const expiresAtMs =
    session === undefined ? facts.expiresAtMs : Math.min(facts.expiresAtMs ?? Infinity, session.expiresAtMs);
  const isUnconditional =
    isActive &&
    expiresAtMs === undefined &&
    revokedAtMs === undefined &&
    allowedMethods.length === 0 &&
    allowedAddresses.length === 0;
  if (isUnconditional) return unconditional;
  return { isActive, expiresAtMs, revokedAtMs, allowedMethods, allowedAddresses };
}

/**
 * A session's principal has a property more than a key's. While V8 has seen one alone of
 * two such shapes, it notes of each field that a principal is put into which shape it
 * has, and looks at the principal to check that: of a million principals, at one that is
 * in no cache. Hence one of the other shape, as long as the process lives.
 */
export const ofSession: Grant = createGrant({
  ...{ ...unconditional, apiKeyId: undefined, userId: 0n, username: "", isStaff: false, canVerify: false },
  session: { id: "", expiresAtMs: 0 },
});

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
