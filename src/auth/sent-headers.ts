/** The headers of a request that somebody else tells of, name by name. */

/** By lower-case name. What came several times is joined. */
export type SentHeaders = ReadonlyMap<string, string>;

/**
 * Joins what came several times as Node does for our own requests (RFC 9110, section 5.3; of
 * cookies RFC 9113, section 8.2.3), the same value too: nothing is lost, and a token that came
 * twice is malformed here as it is there.
 */
export function joinHeaders(fields: Iterable<readonly [name: string, value: string]>): SentHeaders {
  const joined = new Map<string, string>();
  for (const [anyCase, value] of fields) {
    const name = anyCase.toLowerCase();
    const before = joined.get(name);
    const separator = name === "cookie" ? "; " : ", ";
    joined.set(name, before === undefined ? value : `${before}${separator}${value}`);
  }
  return joined;
}
