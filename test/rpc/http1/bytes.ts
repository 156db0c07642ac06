/** Requests as bytes, right or wrong. */

/** What a request is made of; what is not given is as clients send it. */
export interface Parts {
  /** The first line as a whole. */
  readonly line?: string;
  readonly method?: string;
  readonly path?: string;
  readonly version?: string;
  /** Undefined: the server's; null: no such line. */
  readonly host?: string | null;
  /** Undefined: JSON; null: no such line. */
  readonly type?: string | null;
  /** What Content-Length says. Undefined: how long the body is; null: no such line. */
  readonly length?: string | null;
  /** Further lines, as they stand. */
  readonly fields?: readonly string[];
  readonly body?: string | Uint8Array;
  /** What ends each line. */
  readonly eol?: string;
}

export const call = "/test.equality.Echo/Call";
export const path = (method: string) => `/test.equality.Echo/${method}`;

/** The bytes of a text, whose characters above 0x7f are a byte each. */
export const latin1 = (text: string) => Buffer.from(text, "latin1");

export const json = (text: string) => JSON.stringify({ text });

/** Makes requests whose rows in the log are found by their user agent. */
export class Maker {
  readonly agent: string;

  constructor(agent: string) {
    this.agent = agent;
  }

  /** A call with a message in JSON. */
  post(parts: Parts = {}): Buffer {
    const { body = json("hello"), type = "application/json", eol = "\r\n" } = parts;
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    const length = parts.length === undefined ? String(bytes.length) : parts.length;
    return Buffer.concat([
      this.head({
        method: "POST",
        path: call,
        ...parts,
        fields: [
          ...(type === null ? [] : [`Content-Type: ${type}`]),
          ...(parts.fields ?? []),
          ...(length === null ? [] : [`Content-Length: ${length}`]),
        ],
        eol,
      }),
      bytes,
    ]);
  }

  /** A call that stands in the path. */
  get(parts: Parts & { message?: string } = {}): Buffer {
    const query = new URLSearchParams({
      connect: "v1",
      encoding: "json",
      message: parts.message ?? json("hello"),
    });
    return this.head({ method: "GET", path: `${path("Get")}?${query}`, ...parts });
  }

  /** A call in chunks, or whatever stands in for them. */
  chunked(parts: Parts = {}, body = chunks(json("hello"))): Buffer {
    return this.post({
      ...parts,
      length: null,
      body,
      fields: ["Transfer-Encoding: chunked", ...(parts.fields ?? [])],
    });
  }

  head(parts: Parts = {}): Buffer {
    const { method = "GET", path = "/healthz", version = "HTTP/1.1", host, eol = "\r\n" } = parts;
    const lines = [
      parts.line ?? `${method} ${path} ${version}`,
      ...(host === null ? [] : [`Host: ${host ?? "latchkey.test"}`]),
      // Of one length, so that a generated request is the same bytes whichever number it has.
      `User-Agent: ${this.agent.padEnd(20)}`,
      ...(parts.fields ?? []),
    ];
    return latin1(lines.map((line) => line + eol).join("") + eol);
  }
}

export function chunks(...parts: string[]): string {
  return `${parts.map((part) => `${Buffer.byteLength(part).toString(16)}\r\n${part}\r\n`).join("")}0\r\n\r\n`;
}

export function cutAt(bytes: Buffer, ...points: number[]): Buffer[] {
  const all = [0, ...points, bytes.length];
  return all.slice(1).map((end, i) => bytes.subarray(all[i], end));
}

export const byteByByte = (bytes: Buffer) => Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));
