/** Checks of a user's fields. Each throws `invalid_argument`. */
import { checkText, invalid } from "../rpc/validate.ts";

/** A username: 1 to 150 letters, digits and @ . + - _. */
export function checkUsername(username: string): string {
  if (!/^[\p{L}\p{N}@.+_-]{1,150}$/u.test(username)) {
    throw invalid("username must have 1 to 150 letters, digits or characters of @ . + - _");
  }
  return username;
}

/** An email address; empty is none. */
export function checkEmail(email: string): string {
  if (email !== "" && (email.length > 254 || !/^[^\s@\0]+@[^\s@\0]+$/.test(email))) {
    throw invalid("email must be an address like ada@example.com, or empty");
  }
  return email;
}

/** A bio: at most 2,000 characters. */
export function checkBio(bio: string): string {
  return checkText("bio", bio, 2000);
}
