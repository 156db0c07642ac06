/** Of a token its start alone, which a key is found by. */

/** A prefix, `_` and 38 characters, of which a key's `start` has the first 6. */
const pattern = /[A-Za-z0-9_]*_[0-9A-Za-z]{6}(?=[0-9A-Za-z]{32})/;

/**
 * What to search for: where somebody pasted a token, of whatever prefix, its start. The
 * token itself must reach no address, no history and no request.
 */
export function withoutToken(text: string): string {
  return pattern.exec(text)?.[0] ?? text;
}
