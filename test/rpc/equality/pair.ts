/**
 * Two servers on one database that differ in one setting, `leanUnary`, and what
 * becomes of the same request on both.
 */
import assert from "node:assert/strict";
import type { ClientHttp2Stream } from "node:http2";
import type { Config } from "../../../src/config.ts";
import { createTestDatabase } from "../../harness/postgres.ts";
import { createUserAndKey, startServer, type TestServer } from "../../harness/server.ts";
import { handle } from "./behaviours.ts";
import { Http1Connection } from "./http1.ts";
import { Http2Connection } from "./http2.ts";
import { mountAll } from "./mount.ts";
import { readRows } from "./rows.ts";
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
  #http1: Http1Connection | undefined;
  #http2: Http2Connection | undefined;

  constructor(name: "lean" | "stock", server: TestServer, sightings: Sighting[]) {
    this.name = name;
    this.server = server;
    this.sightings = sightings;
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
  readonly #sent = new Map<string, string>();

  constructor(lean: Side, stock: Side, tokens: Record<string, string>) {
    this.lean = lean;
    this.stock = stock;
    this.tokens = tokens;
  }

  get sides(): readonly [Side, Side] {
    return [this.lean, this.stock];
  }

  /** Gives a request the user agent that its row in the log is found by. */
  marked(request: Request, what: string): Request {
    const agent = `equality/${this.#sent.size}`;
    this.#sent.set(agent, what);
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
  async compareAll(requests: Iterable<readonly [what: string, request: Request]>): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    const failures: Error[] = [];
    for (const [what, request] of requests) {
      await this.compare(request, what).then(
        (outcome) => outcomes.push(outcome),
        (error: Error) => failures.push(error),
      );
    }
    const [first, ...others] = failures;
    if (first === undefined) return outcomes;
    first.message += others.map(({ message }) => `\nand also: ${message.split("\n", 1)[0]}`).join("");
    throw first;
  }

  /** Does the same on both sides. Fails where what comes of it differs. */
  async both<T>(
    what: string,
    scenario: (side: Side, mark: (request: Request) => Request) => Promise<T>,
  ): Promise<T> {
    const agent = this.marked({ version: "2", method: "", path: "", headers: [] }, what).headers;
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
    assert.deepEqual(lean, stock, "the request logs differ");
    return lean.size;
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

/** Leaves out what differs between any two calls: the time, and the id that the server makes where none was given. */
function normal(answer: Answer, request: Request): Answer {
  const given = request.headers.some(
    ([name, value]) => name.toLowerCase() === "x-request-id" && madeId.test(value),
  );
  const headers = answer.headers.map(([name, value]) => {
    if (name === "date") return [name, Number.isNaN(Date.parse(value)) ? value : "(now)"] as const;
    if (name === "x-request-id" && !given) return [name, value.replace(madeId, "(made)")] as const;
    return [name, value] as const;
  });
  return { ...answer, headers };
}
