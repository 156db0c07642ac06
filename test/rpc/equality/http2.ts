/** HTTP/2 by node's client: one stream after the other on one connection, its frames as the case says. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { setImmediate as turn } from "node:timers/promises";
import { type Answer, type Fields, paired, type Request, shown, sorted } from "./wire.ts";

const giveUpMs = 15_000;
const endStream = 1;
/** RFC 9113, section 8.2.2: a request with one of these is malformed, and node does not send it. */
const connectionSpecific = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

export class Http2Connection {
  readonly session: ClientHttp2Session;

  constructor(url: string) {
    this.session = connect(url, { strictSingleValueFields: false } as object);
    this.session.on("error", () => {});
  }

  get reusable(): boolean {
    return !this.session.closed && !this.session.destroyed;
  }

  /** Sends a request; `onStream` is given its stream at once, for a case that breaks it off. */
  async exchange(request: Request, onStream?: (stream: ClientHttp2Stream) => void): Promise<Answer> {
    const { body = [], trailers } = request;
    const stream = this.session.request(headersOf(request) as never, {
      endStream: request.body === undefined,
      ...(trailers && { waitForTrailers: true }),
    });
    onStream?.(stream);
    if (trailers) stream.on("wantTrailers", () => stream.sendTrailers(grouped(trailers)));
    const answer = receive(stream);
    for (const [i, piece] of body.entries()) {
      if (i === body.length - 1) await request.holdLast;
      if (stream.destroyed || stream.closed) break;
      // Each piece is a frame of its own.
      stream.write(piece);
      if (i < body.length - 1) await turn();
    }
    if (request.body !== undefined && !stream.writableEnded && !stream.destroyed) stream.end();
    return answer;
  }
}

function headersOf({ method, path, headers, host }: Request): string[] {
  const authority = host === null ? [] : [":authority", host ?? "latchkey.test"];
  return [
    ...[":method", method, ":scheme", "http", ":path", path],
    ...authority,
    ...headers
      .filter(([name, value]) => {
        const lower = name.toLowerCase();
        return !connectionSpecific.has(lower) && (lower !== "te" || value === "trailers");
      })
      .flatMap(([name, value]) => [name.toLowerCase(), value]),
  ];
}

function grouped(fields: Fields): Record<string, string[]> {
  const headers: Record<string, string[]> = {};
  for (const [name, value] of fields)
    headers[name.toLowerCase()] = [...(headers[name.toLowerCase()] ?? []), value];
  return headers;
}

function receive(stream: ClientHttp2Stream): Promise<Answer> {
  const chunks: Buffer[] = [];
  const interim: number[] = [];
  let status = 0;
  let headers: Fields = [];
  let trailers: Fields = [];
  let ended = "";
  stream.on("headers", (seen) => interim.push(Number(seen[":status"])));
  stream.on("continue", () => interim.push(100));
  stream.on("response", (seen, flags, raw) => {
    status = Number(seen[":status"]);
    headers = sorted(paired(raw ?? []).filter(([name]) => name !== ":status"));
    if ((flags & endStream) !== 0) ended = "headers";
  });
  stream.on("trailers", (_, _flags, raw) => {
    trailers = sorted(paired(raw ?? []));
    ended = "trailers";
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("end", () => {
    ended ||= "body";
  });
  stream.on("error", () => {});
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${giveUpMs} ms`)), giveUpMs);
    stream.once("close", () => {
      clearTimeout(timer);
      // Node resets what cannot be answered with NO_ERROR, by which its clients may wait for ever.
      if (status === 0 && stream.rstCode === 0 && ended === "body") ended = "reset 2";
      const end = stream.rstCode === 0 ? ended || "closed" : `${ended} reset ${stream.rstCode}`.trim();
      resolve({ status, headers, body: shown(Buffer.concat(chunks)), trailers, interim, end });
    });
  });
}
