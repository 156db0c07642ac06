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
  let codes = 0;
  let digits = 0;
  let crc = -1;
  // No branch depends on a character: which way it went would be foretold for a thousand tokens, not for a million.
  for (let i = at; i < at + randomLength; i++) {
    const code = value.charCodeAt(i);
    codes |= code;
    digits |= digitOf[code & 127] as number;
    crc = (crcOf[(crc ^ code) & 255] as number) ^ (crc >>> 8);
  }
  let said = 0;
  for (let i = at + randomLength; i < value.length; i++) {
    const code = value.charCodeAt(i);
    const digit = digitOf[code & 127] as number;
    codes |= code;
    digits |= digit;
    said = said * 62 + digit;
  }
  return codes < 128 && digits < noDigit && said === ~crc >>> 0;
}

const noDigit = 64;
/** What each ASCII character says in base62. */
const digitOf = new Uint8Array(128).fill(noDigit);
for (const [digit, character] of [...alphabet].entries()) digitOf[character.charCodeAt(0)] = digit;
/** CRC-32 of each byte (RFC 1952, section 8). */
const crcOf = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

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
