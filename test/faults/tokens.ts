/** Tokens of the right shape and checksum that no key has. */
import { createToken } from "../../src/auth/token.ts";
import { noteSecret } from "../harness/secrets.ts";

export function createUnknownToken(): string {
  return noteSecret(createToken("lk"));
}
