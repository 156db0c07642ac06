/** What a Postgres server says, as far as it concerns its connection. */

/** So long an error may be; beyond, whatever says it is no Postgres. */
const maxErrorBytes = 65_536;

export interface Received {
  /** For the driver. */
  readonly pass: Buffer;
  /** The error with which the server ends the session, or lets none begin: nothing comes after it. */
  readonly fatal: Error | undefined;
}

/** Follows the messages of one connection, from the first after TLS. */
export class ServerMessages {
  /** Whether the session has begun: the server was ready for a statement once. */
  ready = false;
  /** Bytes of the last message that are still to come. */
  #left = 0;
  /** The begin of a message that has to be seen whole. */
  #held: Buffer | undefined;

  read(chunk: Buffer): Received {
    const data = this.#held === undefined ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = undefined;
    let at = Math.min(this.#left, data.length);
    this.#left -= at;
    while (at < data.length) {
      const isCut = data.length - at < 5;
      const end = isCut ? Number.POSITIVE_INFINITY : at + 1 + data.readInt32BE(at + 1);
      const isError = !isCut && data[at] === 0x45 && end - at <= maxErrorBytes;
      if (isCut || (isError && end > data.length)) {
        this.#held = data.subarray(at);
        return { pass: data.subarray(0, at), fatal: undefined };
      }
      if (isError) {
        const error = parseError(data.subarray(at + 5, end));
        const isFatal = !this.ready || error.severity === "FATAL" || error.severity === "PANIC";
        if (isFatal) return { pass: data.subarray(0, at), fatal: error };
      } else if (data[at] === 0x5a) this.ready = true;
      this.#left = Math.max(0, end - data.length);
      at = Math.min(data.length, Math.max(end, at + 5));
    }
    return { pass: data, fatal: undefined };
  }
}

/** Its fields: a letter each, and a text that ends with a zero. */
function parseError(fields: Buffer): Error & { severity: string | undefined } {
  const byLetter = new Map<string, string>();
  for (const field of fields.toString().split("\0")) {
    if (field.length > 0) byLetter.set(field.charAt(0), field.slice(1));
  }
  const error = new Error(byLetter.get("M") ?? "the database server ended the connection");
  // V is the severity in English, of Postgres 9.6 and later; a pooler may send S alone.
  const severity = byLetter.get("V") ?? byLetter.get("S");
  return Object.assign(error, { name: "PostgresError", severity, code: byLetter.get("C") });
}
