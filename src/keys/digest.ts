/** What grants are looked up by, as numbers: SHA-256 digests, read from base64. */
import { hash } from "node:crypto";

/** 32-bit words of a digest. */
export const digestWords = 8;

/** A name as numbers. */
export interface Digest {
  readonly words: Int32Array;
  /** Of the name, which is no digest itself. Two names are the same only if this is the same too. */
  isOfName: boolean;
}

export function emptyDigest(): Digest {
  return { words: new Int32Array(digestWords), isOfName: false };
}

/** Reads a name: a digest in base64 for what it says, whatever else by its own digest. */
export function readName(name: string, digest: Digest): void {
  digest.isOfName = !readBase64(name, digest.words);
  if (digest.isOfName) readBase64(hash("sha256", name, "base64"), digest.words);
}

const base64Length = 44;
const padding = "=".charCodeAt(0);
const noSextet = 64;
/** What each ASCII character says in base64 (RFC 4648, section 4). */
const sextets = new Uint8Array(128).fill(noSextet);
for (const [sextet, character] of [
  ..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
].entries()) {
  sextets[character.charCodeAt(0)] = sextet;
}
/** Four characters each, 24 bits; the last has three and the padding. */
const quads = new Int32Array(base64Length / 4);
const lastQuad = quads.length - 1;

/**
 * False, and there may be anything in the words: it is none, or none as it is properly
 * written, so that no two texts are the same digest. Node's decoder would take as long
 * as the hash itself; here no branch depends on a character, which nothing could foretell.
 */
function readBase64(text: string, words: Int32Array): boolean {
  if (text.length !== base64Length || text.charCodeAt(base64Length - 1) !== padding) return false;
  let codes = 0;
  let all = 0;
  for (let quad = 0, at = 0; quad <= lastQuad; quad++, at += 4) {
    const a = text.charCodeAt(at);
    const b = text.charCodeAt(at + 1);
    const c = text.charCodeAt(at + 2);
    const d = quad < lastQuad ? text.charCodeAt(at + 3) : zero;
    codes |= a | b | c | d;
    const sextetA = sextets[a & 127]!;
    const sextetB = sextets[b & 127]!;
    const sextetC = sextets[c & 127]!;
    const sextetD = sextets[d & 127]!;
    all |= sextetA | sextetB | sextetC | sextetD;
    quads[quad] = (sextetA << 18) | (sextetB << 12) | (sextetC << 6) | sextetD;
  }
  // 43 characters are two bits more than a digest, and the padding six.
  if (codes > 127 || all >= noSextet || (quads[lastQuad]! & 0xff) !== 0) return false;
  for (let word = 0, quad = 0; word < digestWords; quad += 4) {
    words[word++] = (quads[quad]! << 8) | (quads[quad + 1]! >> 16);
    words[word++] = (quads[quad + 1]! << 16) | (quads[quad + 2]! >> 8);
    if (word < digestWords) words[word++] = (quads[quad + 2]! << 24) | quads[quad + 3]!;
  }
  return true;
}

/** Says nothing but zeros. */
const zero = "A".charCodeAt(0);
