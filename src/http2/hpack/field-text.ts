/** Which text names and values may have (RFC 9113, section 8.2.1, and RFC 9110, sections 5.1 and 5.5). */

const nameCharacters = createSet("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz");
const tokenCharacters = createSet(
  "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
);

/** A token in lower case. */
export function isFieldName(name: string): boolean {
  return name !== "" && hasOnly(nameCharacters, name);
}

export function isToken(text: string): boolean {
  return text !== "" && hasOnly(tokenCharacters, text);
}

/**
 * Octets without control characters but tabs, and without whitespace at either end. HTTP/2
 * forbids NUL, CR and LF alone of the control characters; HTTP forbids the others.
 */
export function isFieldValue(value: string): boolean {
  if (value === "") return true;
  if (value.charCodeAt(0) <= space || value.charCodeAt(value.length - 1) <= space) return false;
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code < space ? code !== tab : code === del || code > 0xff) return false;
  }
  return true;
}

const tab = 0x09;
const space = 0x20;
const del = 0x7f;

function hasOnly(set: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (set[text.charCodeAt(i)] !== 1) return false;
  }
  return true;
}

function createSet(characters: string): Uint8Array {
  const set = new Uint8Array(256);
  for (const character of characters) set[character.charCodeAt(0)] = 1;
  return set;
}
