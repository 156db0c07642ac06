/** Who calls, once verified, and how a handler reads it. */
import {
  Code,
  ConnectError,
  type ContextKey,
  type ContextValues,
  createContextKey,
} from "@connectrpc/connect";

/** The verified identity behind an RPC. It never holds the credential. */
export interface Principal {
  readonly userId: bigint;
  readonly username: string;
  readonly isStaff: boolean;
  /** How the caller signed in. */
  readonly credentialKind: "api_key" | "secret_key" | "session";
  /** The API key's id (a UUID), also of the one that a session was signed in with; undefined: the secret key. */
  readonly apiKeyId: string | undefined;
  /** May ask for verdicts on other keys: staff, and keys that staff gave this to. */
  readonly canVerify: boolean;
  /** A UUID; only of a session. */
  readonly sessionId?: string;
}

/** Where the principal of an RPC stands in its context values; undefined: anonymous. */
export const principalKey: ContextKey<Principal | undefined> = createContextKey<Principal | undefined>(
  undefined,
  { description: "latchkey principal" },
);

/** What a handler's context gives to read the principal from. */
type Context = { readonly values: ContextValues };

/** The principal of this RPC; undefined when the caller is anonymous. */
export function getPrincipal(context: Context): Principal | undefined {
  return context.values.get(principalKey);
}

/** The principal of this RPC. Throws `unauthenticated` when the caller is anonymous. */
export function requireUser(context: Context): Principal {
  const principal = getPrincipal(context);
  if (principal === undefined) {
    throw new ConnectError("this needs an API key: send one and call again", Code.Unauthenticated);
  }
  return principal;
}

/**
 * The principal of this RPC, a staff user's. Throws `unauthenticated` when the
 * caller is anonymous and `permission_denied` when the user is not staff.
 */
export function requireStaff(context: Context): Principal {
  const principal = requireUser(context);
  if (!principal.isStaff) {
    throw new ConnectError("this needs a staff user's API key", Code.PermissionDenied);
  }
  return principal;
}

/**
 * The principal of this RPC, one that may ask for verdicts on other keys. Throws
 * `unauthenticated` when the caller is anonymous and `permission_denied` when it
 * may not.
 */
export function requireVerifier(context: Context): Principal {
  const principal = requireUser(context);
  if (!principal.canVerify) {
    throw new ConnectError(
      "this needs a staff user's API key, or one with can_verify",
      Code.PermissionDenied,
    );
  }
  return principal;
}
