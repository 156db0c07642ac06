/** Tokens: how they are made, recognised and hashed. */
import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const randomLength = 32;
const checksumLength = 6;

/**
 * A new token: `<prefix>_`, 32 random base62 characters (about 190 bits) and
 * their CRC-32 as 6 base62 characters, zero-padded.
 */
export function createToken(prefix: string): string {
  let random = "";
  while (random.length < randomLength) {
    for (const byte of randomBytes(randomLength)) {
      // 248 is the largest multiple of 62 in a byte: taking more would favour the first characters.
      if (byte < 248 && random.length < randomLength) random += alphabet[byte % 62];
    }
  }
  return `${prefix}_${random}${checksum(random)}`;
}

/**
 * Whether a string has a token's shape and checksum. Says nothing of whether a
 * key exists; a string that fails reaches cache and database only where there are
 * imported keys.
 */
export function isToken(value: string, prefix: string): boolean {
  const at = prefix.length + 1;
  if (value.length !== at + randomLength + checksumLength) return false;
  if (!value.startsWith(prefix) || value[prefix.length] !== "_") return false;
  const body = value.slice(at);
  return base62.test(body) && numberOf(body, randomLength) === crc32(body.slice(0, randomLength));
}

const base62 = /^[0-9A-Za-z]+$/;
const digitOf = new Map([...alphabet].map((character, digit) => [character.charCodeAt(0), digit]));

/** The number that base62 digits from an index on say. */
function numberOf(digits: string, from: number): number {
  let number = 0;
  for (let i = from; i < digits.length; i++) number = number * 62 + (digitOf.get(digits.charCodeAt(i)) ?? 0);
  return number;
}

/** Whether a string can be a token of another system, imported by its hash: 8 to 512 visible ASCII characters. */
export function isForeignToken(value: string): boolean {
  return /^[\x21-\x7e]{8,512}$/.test(value);
}

/** Creates what blots tokens out of a text that is to be logged or stored. */
export function createRedactor(prefix: string): (text: string) => string {
  const pattern = new RegExp(`${prefix}_[0-9A-Za-z]{8,}`, "g");
  return (text) => (text.includes(`${prefix}_`) ? text.replace(pattern, `${prefix}_[redacted]`) : text);
}

/** The first characters of a token: enough to recognise it by, too few to guess the rest. */
export function tokenStart(token: string, prefix: string): string {
  return token.slice(0, prefix.length + 1 + 6);
}

/**
 * SHA-256 of a token, base64: what is stored and looked up. A fast hash is right
 * here: the token's 190 random bits cannot be searched, so a password hash would
 * only make every request dearer.
 */
export function hashToken(token: string): string {
  return hash("sha256", token, "base64");
}

function checksum(random: string): string {
  let rest = crc32(random);
  let digits = "";
  for (let i = 0; i < checksumLength; i++) {
    digits = alphabet[rest % 62] + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}
