/** How the headers of a request are read, wherever they came from. */

/**
 * Reads one header by its lower-case name; what Headers and Node's raw headers both
 * offer. "host" is the authority that was called, over HTTP/2 too.
 */
export type ReadHeader = (name: string) => string | null | undefined;

/** Reads headers that come with their URL. A `host` is not among them over HTTP/2. */
export function readHeaderOf(header: Headers, url: string): ReadHeader {
  return (name) => (name === "host" ? new URL(url).host : header.get(name));
}
