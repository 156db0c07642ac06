/** The secrets of sessions: what is in their cookies, and the hashes that are stored of them. */
import { createToken, hashToken, isToken } from "./token.ts";

export interface SessionSecrets {
  /** A new one, for a session that a key or the secret key signs in. */
  create(signedInBy: "api_key" | "secret_key"): { readonly value: string; readonly hash: string };
  /** The hash that a cookie's value is looked up by; undefined: no session has it. */
  hash(value: string): string | undefined;
}

/** Ends the value of a session that the secret key signed in. */
const bySecretKey = ".s";

/**
 * Creates them. A secret has the shape of a token, so that it is recognised and
 * blotted out wherever tokens are; it is none: no key has it.
 *
 * The hash of a session that the secret key signed in is over both secrets: with
 * another secret key, or where none is accepted any more, nobody can come up with it.
 */
export function createSessionSecrets(options: {
  tokenPrefix: string;
  /** Undefined: none is accepted. */
  secretKey: string | undefined;
}): SessionSecrets {
  const { tokenPrefix, secretKey } = options;

  function hash(value: string): string | undefined {
    const isOfSecretKey = value.endsWith(bySecretKey);
    if (!isToken(isOfSecretKey ? value.slice(0, -bySecretKey.length) : value, tokenPrefix)) return undefined;
    if (!isOfSecretKey) return hashToken(value);
    return secretKey === undefined ? undefined : hashToken(`${value}.${secretKey}`);
  }

  return {
    create(signedInBy) {
      const value = createToken(tokenPrefix) + (signedInBy === "secret_key" ? bySecretKey : "");
      const hashed = hash(value);
      if (hashed === undefined) throw new Error("no secret key is accepted, and so it signs nobody in");
      return { value, hash: hashed };
    },
    hash,
  };
}
