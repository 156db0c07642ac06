/**
 * Two servers on one database that differ in one setting, `leanUnary`, and what
 * becomes of the same request on both.
 */
import assert from "node:assert/strict";
import type { ClientHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { Config } from "../../../src/config.ts";
import { createTestDatabase } from "../../harness/postgres.ts";
import { createUserAndKey, startServer, type TestServer } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { handle } from "./behaviours.ts";
import { Http1Connection } from "./http1.ts";
import { Http2Connection } from "./http2.ts";
import { mountAll } from "./mount.ts";
import { readRows, type Sent } from "./rows.ts";
import { afterwards, type Sighting } from "./sighting.ts";
import type { Answer, Request } from "./wire.ts";

export const maxMessageBytes = 8192;

/** What is compared. */
export interface Outcome {
  readonly answer: Answer;
  readonly seen: unknown[];
}

export class Side {
  readonly name: "lean" | "stock";
  readonly server: TestServer;
  readonly sightings: Sighting[];
  readonly #accepted: Socket[] = [];
  #http1: Http1Connection | undefined;
  #http2: Http2Connection | undefined;

  constructor(name: "lean" | "stock", server: TestServer, sightings: Sighting[]) {
    this.name = name;
    this.server = server;
    this.sightings = sightings;
    server.server.app.server.on("connection", (socket: Socket) => this.#accepted.push(socket));
  }

  /** Waits until the server has read everything that was written on a connection. */
  async hasRead(socket: Pick<Socket, "localPort" | "bytesWritten">): Promise<void> {
    await until(
      () => {
        const own = this.#accepted.find(({ remotePort }) => remotePort === socket.localPort);
        return [socket.localPort, own?.bytesRead, socket.bytesWritten];
      },
      ([port, read, written]) => port !== undefined && read === written,
    );
  }

  http1(): Http1Connection {
    if (!this.#http1?.reusable) this.#http1 = new Http1Connection(this.server.port);
    return this.#http1;
  }

  http2(): Http2Connection {
    if (!this.#http2?.reusable) this.#http2 = new Http2Connection(this.server.url);
    return this.#http2;
  }

  async send(request: Request, onStream?: (stream: ClientHttp2Stream) => void): Promise<Outcome> {
    this.sightings.length = 0;
    const answer =
      request.version === "1.1"
        ? await this.http1().exchange(request)
        : await this.http2().exchange(request, onStream);
    return { answer: normal(answer, request), seen: await Promise.all(this.sightings.map(afterwards)) };
  }

  /** Sends all of them at once, over HTTP/1.1 on a connection for each. What was seen is in the order of the messages. */
  async sendAll(requests: readonly Request[]): Promise<{ answers: Answer[]; seen: unknown[] }> {
    this.sightings.length = 0;
    const answers = await Promise.all(
      requests.map(async (request) => {
        if (request.version === "2") return normal(await this.http2().exchange(request), request);
        const connection = new Http1Connection(this.server.port);
        const answer = normal(await connection.exchange(request), request);
        connection.socket.destroy();
        return answer;
      }),
    );
    const seen = await Promise.all(this.sightings.map(afterwards));
    return {
      answers,
      seen: seen.sort((a, b) => (JSON.stringify(a.message) < JSON.stringify(b.message) ? -1 : 1)),
    };
  }

  close(): void {
    this.#http1?.socket.destroy();
    this.#http2?.session.destroy();
  }
}

export class Pair {
  readonly lean: Side;
  readonly stock: Side;
  /** Tokens by what they are. */
  readonly tokens: Readonly<Record<string, string>>;
  /** What each request was, by the user agent that it is sent with. */
  readonly #sent = new Map<string, Sent>();

  constructor(lean: Side, stock: Side, tokens: Record<string, string>) {
    this.lean = lean;
    this.stock = stock;
    this.tokens = tokens;
  }

  get sides(): readonly [Side, Side] {
    return [this.lean, this.stock];
  }

  /** Gives a request the user agent that its row in the log is found by. */
  marked(request: Request, what: string, isLeft = false): Request {
    const agent = `equality/${this.#sent.size}`;
    // Of a body in pieces that is refused, as many have come as have.
    this.#sent.set(agent, { what, inPieces: (request.body?.length ?? 0) > 1, isLeft });
    return { ...request, headers: [...request.headers, ["user-agent", agent]] };
  }

  /** Sends a request to both. Fails where anything differs; returns what is the same. */
  async compare(request: Request, what: string): Promise<Outcome> {
    const marked = this.marked(request, what);
    const [lean, stock] = await Promise.all(this.sides.map((side) => side.send(marked)));
    assert.deepEqual(lean, stock, `the lean path differs from stock: ${what}`);
    return lean as Outcome;
  }

  /** Compares many, all of them whatever becomes of the first; fails with the first that differs, and names the others. */
  async compareAll(requests: Iterable<readonly [what: string, request: Request]>): Promise<void> {
    const failures: Error[] = [];
    for (const [what, request] of requests) {
      await this.compare(request, what).catch((error: Error) => failures.push(error));
    }
    const [first, ...others] = failures;
    if (first === undefined) return;
    first.message += others.map(({ message }) => `\nand also: ${message.split("\n", 1)[0]}`).join("");
    throw first;
  }

  /** Does the same on both sides, `isLeft` where clients leave. Fails where what comes of it differs. */
  async both<T>(
    what: string,
    scenario: (side: Side, mark: (request: Request) => Request) => Promise<T>,
    isLeft = false,
  ): Promise<T> {
    const agent = this.marked({ version: "2", method: "", path: "", headers: [] }, what, isLeft).headers;
    const mark = (request: Request) => ({ ...request, headers: [...request.headers, ...agent] });
    const [lean, stock] = await Promise.all(this.sides.map((side) => scenario(side, mark)));
    assert.deepEqual(lean, stock, `the lean path differs from stock: ${what}`);
    return lean as T;
  }

  /** Stops both, and says what they logged of each request where it differs. Returns how many rows were compared. */
  async compareRows(): Promise<number> {
    await this.#mark();
    await this.close();
    const { lean, stock } = await readRows(this.lean.server.databaseUrl, this.#sent);
    const all = [...new Set([...lean.keys(), ...stock.keys()])];
    const differing = all.filter((what) => !isDeepStrictEqual(lean.get(what), stock.get(what)));
    const some = (rows: ReadonlyMap<string, unknown>) =>
      differing.slice(0, 20).map((what) => [what, rows.get(what)]);
    assert.deepEqual(some(lean), some(stock), `the logs of ${differing.length} requests differ`);
    return all.length;
  }

  /** Tells the instances apart in the log. */
  async #mark(): Promise<void> {
    for (const side of this.sides) {
      await fetch(`${side.server.url}/test.equality.Echo/Call`, {
        method: "POST",
        headers: { "content-type": "application/json", "user-agent": side.name },
        body: "{}",
      });
    }
  }

  async close(): Promise<void> {
    for (const side of this.sides) side.close();
    await Promise.all(this.sides.map(({ server }) => server.close()));
  }
}

export async function startPair(config: Partial<Config> = {}): Promise<Pair> {
  const databaseUrl = await createTestDatabase();
  const start = async (name: "lean" | "stock") => {
    const sightings: Sighting[] = [];
    const server = await startServer(
      { maxMessageBytes, ...config, databaseUrl, leanUnary: name === "lean" },
      { routes: (router) => mountAll(router, handle(sightings), sightings) },
    );
    return new Side(name, server, sightings);
  };
  const lean = await start("lean");
  const stock = await start("stock");
  const { token } = await createUserAndKey(stock.server.asStaff, "equal");
  return new Pair(lean, stock, { user: token });
}

const madeId = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/**
 * Leaves out what differs between any two calls: the time, and the id that the server makes where none was
 * given. Whether an upload that is answered early ends its connection depends on how much has come by then.
 */
export function normal(answer: Answer, request: Request): Answer {
  const given = request.headers.some(
    ([name, value]) => name.toLowerCase() === "x-request-id" && madeId.test(value),
  );
  const isUpload = request.version === "1.1" && request.framing === "chunked";
  const headers = answer.headers
    .filter(([name]) => !(isUpload && (name === "connection" || name === "keep-alive")))
    .map(([name, value]) => {
      if (name === "date") return [name, Number.isNaN(Date.parse(value)) ? value : "(now)"] as const;
      if (name === "x-request-id" && !given) return [name, value.replace(madeId, "(made)")] as const;
      return [name, value] as const;
    });
  return { ...answer, headers };
}
