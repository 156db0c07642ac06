/** How the text of a setting becomes its value, or is refused: each says what it takes, never what it was given. */
import { isIP } from "node:net";

/** A setting that is unknown or malformed. The message names it and says what it takes. */
export class ConfigError extends Error {
  /** "ConfigError". */
  override name = "ConfigError";
}

/** Reads a setting's text. Throws a {@link ConfigError} that begins after the setting's name. */
export type Parse<T> = (value: string) => T;

export const text: Parse<string> = (value) => value;

export const boolean: Parse<boolean> = (value) => {
  if (/^(true|1|yes|on)$/i.test(value)) return true;
  if (/^(false|0|no|off)$/i.test(value)) return false;
  throw new ConfigError("must be true or false");
};

const list: Parse<string[]> = (value) =>
  value
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");

export function integer(min: number, max: number): Parse<number> {
  return (value) => {
    const n = Number(value);
    if (!/^\d+$/.test(value) || n < min || n > max) {
      throw new ConfigError(`must be a whole number from ${min} to ${max}`);
    }
    return n;
  };
}

export function matching(pattern: RegExp, message: string): Parse<string> {
  return (value) => {
    if (!pattern.test(value)) throw new ConfigError(message);
    return value;
  };
}

export function listOf(pattern: RegExp, message: string): Parse<string[]> {
  return (value) => list(value).map(matching(pattern, message));
}

// Strict about @ and /: one that is not encoded would make a part of the password look like the host, and be shown.
export const databaseUrl = matching(
  /^postgres(ql)?:\/\/([^\s@/?#]*@)?(\[[0-9a-f:.]+\]|[^\s@/?#:[\]]*)(:\d+)?(,[^\s@/?#:]+(:\d+)?)*(\/[^\s@/?#]*)?(\?[^\s@#]*)?$/i,
  "must be a Postgres URL like postgres://user:password@host:5432/database; in a password, write @ as %40 and / as %2F",
);

export const addresses: Parse<string[]> = (value) =>
  list(value).map((item) => {
    const [address = "", bits, ...rest] = item.split("/");
    const most = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
    if (
      most < 0 ||
      rest.length > 0 ||
      (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= most))
    ) {
      throw new ConfigError("must list IP addresses or CIDR blocks, separated by commas");
    }
    return item;
  });
