/** A request as it is put on the wire, and what comes back. */

/** Names are sent as they are given over HTTP/1.1, in lower case over HTTP/2. */
export type Fields = readonly (readonly [name: string, value: string])[];

export interface Request {
  readonly version: "1.1" | "2";
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Fields;
  /** The body in the pieces that are written one after the other; undefined: none. */
  readonly body?: readonly Uint8Array[];
  /**
   * How the end of the body is told over HTTP/1.1: by its length (the default), in
   * chunks, or not at all, the headers being what the case says.
   */
  readonly framing?: "length" | "chunked" | "none";
  /** Sent after the body: over HTTP/1.1 in chunks, over HTTP/2. */
  readonly trailers?: Fields;
  /** Undefined: the server's own; null: none. */
  readonly host?: string | null;
  /** Waits for this before the last piece of the body is sent. */
  readonly holdLast?: Promise<unknown>;
}

/** What came back, in what both versions of HTTP have in common. */
export interface Answer {
  /** 0: nothing came. */
  readonly status: number;
  /** By name, in lower case. Of a name that comes twice, both, in turn. */
  readonly headers: Fields;
  /** In hexadecimal where it is not text. */
  readonly body: string;
  readonly trailers: Fields;
  /** Statuses that came before, e.g. 100. */
  readonly interim: readonly number[];
  /** How it ended: "headers" (END_STREAM on them), "body", "reset N", "closed", "cut". */
  readonly end: string;
}

export function sorted(fields: Iterable<readonly [string, string]>): Fields {
  return [...fields]
    .map(([name, value]) => [name.toLowerCase(), value] as const)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

/** As text where it is text, so that a difference can be read. */
export function shown(body: Uint8Array): string {
  const text = Buffer.from(body).toString("utf8");
  return /^[\x20-\x7e\n]*$/.test(text) ? text : `hex ${Buffer.from(body).toString("hex")}`;
}

/** Reads a list of headers as node gives them raw: name, value, name, value. */
export function paired(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i] ?? "", raw[2 * i + 1] ?? ""]);
}
