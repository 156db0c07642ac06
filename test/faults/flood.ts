/** Calls with credentials that nobody has, as fast as they are answered. */
import { type ClientHttp2Session, connect } from "node:http2";
import { text } from "node:stream/consumers";

export interface FloodOptions {
  readonly url: string;
  readonly connections: number;
  /** Calls under way at once on each connection. */
  readonly streams: number;
  /** Calls in all. */
  readonly calls: number;
  /** A credential, new for each call. */
  readonly token: () => string;
  /** What the n-th call says in x-forwarded-for; undefined: nothing. */
  readonly address?: (n: number) => string;
  /** Told the code of every call as it ends. */
  readonly onEnd?: (code: string) => void;
}

/** Resolves with how many calls ended with each code. */
export async function flood(options: FloodOptions): Promise<Map<string, number>> {
  const ended = new Map<string, number>();
  let sent = 0;
  async function work(session: ClientHttp2Session): Promise<void> {
    while (sent < options.calls) {
      const n = sent++;
      const code = await codeOf(session, options.token(), options.address?.(n));
      ended.set(code, (ended.get(code) ?? 0) + 1);
      options.onEnd?.(code);
    }
  }
  const sessions = Array.from({ length: options.connections }, () => connect(options.url));
  try {
    await Promise.all(
      sessions.flatMap((session) => Array.from({ length: options.streams }, () => work(session))),
    );
  } finally {
    for (const session of sessions) session.close();
  }
  return ended;
}

/** How a call of GetUser with a token ends: "ok", or the code's name as Connect spells it. */
export async function codeOf(session: ClientHttp2Session, token: string, address?: string): Promise<string> {
  const stream = session.request({
    ":method": "POST",
    ":path": "/api.users.UserService/GetUser",
    "content-type": "application/json",
    "x-api-key": token,
    ...(address !== undefined && { "x-forwarded-for": address }),
  });
  let status: unknown;
  stream.on("response", (headers) => {
    status = headers[":status"];
  });
  stream.end('{"userId":"1"}');
  try {
    const body = await text(stream);
    return status === 200 ? "ok" : (JSON.parse(body) as { code: string }).code;
  } catch (error) {
    return String(error);
  }
}
