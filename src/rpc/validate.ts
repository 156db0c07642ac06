/** Checks of request fields that several services make. Each throws `invalid_argument`. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

/** A text of at most so many characters. */
export function checkText(field: string, value: string, most: number, least = 0): string {
  const length = [...value].length;
  if (length < least || length > most) {
    const range = least === 0 ? `at most ${most}` : `${least} to ${most}`;
    throw invalid(`${field} must have ${range} characters, not ${length}`);
  }
  // Postgres stores no NUL.
  if (value.includes("\0")) throw invalid(`${field} must not contain the character NUL`);
  return value;
}

/** A user's id. */
export function checkUserId(field: string, value: bigint): bigint {
  if (value < 1n) throw invalid(`${field} must be a user's id, 1 or more`);
  return value;
}

/** A UUID. */
export function checkUuid(field: string, value: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) {
    throw invalid(`${field} must be a UUID like 01890a5d-ac96-774b-bcce-b302099a8057`);
  }
  return value.toLowerCase();
}

const lastMs = 253_402_300_799_999;

/**
 * A time of the years 1 to 9999, as protobuf has it, in whole milliseconds. A
 * part of one is dropped, or rounded up where the time bounds a range: what is
 * stored in milliseconds is then compared as if to the nanosecond.
 */
export function checkTime(field: string, value: Timestamp, round: "down" | "up" = "down"): Date {
  const { seconds, nanos } = value;
  if (seconds < -62_135_596_800n || seconds > 253_402_300_799n || nanos < 0 || nanos > 999_999_999) {
    throw invalid(`${field} must be a time from year 1 to 9999`);
  }
  const ms = Number(seconds) * 1000 + (round === "up" ? Math.ceil : Math.floor)(nanos / 1_000_000);
  return new Date(Math.min(ms, lastMs));
}

export function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}
