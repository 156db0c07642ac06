/** What the tests of HTTP/2 call, on a server of each setting of the lean path. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext } from "@connectrpc/connect";
import type { Config } from "../../../src/config.ts";
import { flag } from "../../faults/frames.ts";
import type { TestServer } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { startFixture } from "../protocols.ts";
import { type Answer, Connection, type ConnectionOptions, data, headers } from "./connection.ts";
import type { Fields } from "./hpack.ts";

/** A call that waits until its test lets it go. */
export interface HeldCall {
  readonly signal: AbortSignal;
  release(): void;
}

export interface Served extends TestServer {
  /** Calls that wait, by the name in their message. */
  readonly held: Map<string, HeldCall>;
  /** The messages, as text, that have reached a handler of unary calls. */
  readonly reached: Set<string>;
  open(t: TestContext, options?: ConnectionOptions): Connection;
}

/**
 * Methods that do what their message asks for: "hold NAME" waits, "large N" answers so
 * many bytes, or as many in messages of 1,000; "headers" answers the request's cookies
 * and what starts with x-; all else is answered as it came.
 */
export async function startServed(config: Partial<Config>): Promise<Served> {
  const held = new Map<string, HeldCall>();
  const reached = new Set<string>();

  async function hold(text: string, { signal }: HandlerContext): Promise<void> {
    const [, name] = /^hold (.+)$/.exec(text) ?? [];
    if (name === undefined) return;
    const released = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => released.resolve());
    held.set(name, { signal, release: released.resolve });
    await released.promise;
  }
  const textOf = ({ value }: { value: Uint8Array }) => Buffer.from(value).toString("latin1", 0, 100);
  const largeOf = (text: string) => Number(/^large (\d+)$/.exec(text)?.[1] ?? 0);

  const server = await startFixture(
    {
      async unary(request, context) {
        const text = textOf(request);
        reached.add(text);
        await hold(text, context);
        if (text === "headers") return { value: Buffer.from(ownHeaders(context)) };
        const bytes = largeOf(text);
        return bytes > 0 ? { value: pattern(bytes) } : request;
      },
      async *serverStream(request, context) {
        const text = textOf(request);
        yield request;
        await hold(text, context);
        for (let left = largeOf(text); left > 0; left -= 1000) yield { value: pattern(1000) };
      },
      async clientStream(requests) {
        let [messages, bytes] = [0, 0];
        for await (const { value } of requests) {
          messages++;
          bytes += value.length;
        }
        return { value: Buffer.from(`${messages} messages, ${bytes} bytes`) };
      },
      async *bidiStream(requests, context) {
        for await (const request of requests) {
          yield request;
          await hold(textOf(request), context);
        }
      },
    },
    config,
  );
  return { ...server, held, reached, open: (t, options) => new Connection(t, server.port, options) };
}

function ownHeaders({ requestHeader }: HandlerContext): string {
  const own = [...requestHeader].filter(([name]) => name === "cookie" || name.startsWith("x-"));
  return JSON.stringify(own.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Bytes that are not all alike. */
export function pattern(length: number): Buffer {
  return Buffer.alloc(length, "0123456789abcdef!");
}

/** With and without the lean path. */
export const settings = [
  { name: "with the lean unary path", leanUnary: true },
  { name: "without the lean unary path", leanUnary: false },
];

/**
 * Declares tests of a guarantee, on a server of each setting; what these return has to
 * be the same. The servers are those of the file.
 */
export function servedBothWays(config: Partial<Config> = {}) {
  const servers: Served[] = [];
  before(async () => {
    servers.push(
      ...(await Promise.all(settings.map(({ leanUnary }) => startServed({ ...config, leanUnary })))),
    );
  });
  after(() => Promise.all(servers.map((server) => server.close())));

  return function bothWays(name: string, run: (t: TestContext, served: Served) => Promise<unknown>): void {
    test(name, async (t) => {
      const seen: unknown[] = [];
      for (const [i, setting] of settings.entries()) {
        await t.test(setting.name, async (t) => {
          seen.push(await run(t, servers[i]!));
        });
      }
      assert.deepEqual(seen[0], seen[1], "both settings answer alike");
    });
  };
}

/** A message of the fixture. */
export const message = (value: string | Uint8Array): Uint8Array =>
  toBinary(BytesValueSchema, { $typeName: "google.protobuf.BytesValue", value: Buffer.from(value) });

/** One of gRPC: with its flag and length before it. */
export function grpcMessage(value: string | Uint8Array): Buffer {
  const bytes = message(value);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** What the messages of a gRPC answer hold. */
export function grpcValues(body: Buffer): Buffer[] {
  const values: Buffer[] = [];
  for (let at = 0; at < body.length; ) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    assert.ok(end <= body.length, "the last message is whole");
    values.push(Buffer.from(fromBinary(BytesValueSchema, body.subarray(at + 5, end)).value));
    at = end;
  }
  return values;
}

export type Method = "Unary" | "ServerStream" | "ClientStream" | "BidiStream";

/** The headers of a POST. */
export const to = (path: string): [string, string][] => [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", path],
  [":authority", "latchkey.test"],
];

/** The headers of a gRPC call. */
export const grpc = (method: Method = "Unary", more: Fields = []): Fields => [
  ...to(`/test.Fixture/${method}`),
  ["content-type", "application/grpc"],
  ["te", "trailers"],
  ...more,
];

/** The headers of a unary call over Connect. */
export const connect = (more: Fields = []): Fields => [
  ...to("/test.Fixture/Unary"),
  ["content-type", "application/proto"],
  ["connect-protocol-version", "1"],
  ...more,
];

/** The headers of a request that is no RPC. */
export const get = (path = "/healthz", method = "GET", more: Fields = []): Fields => [
  [":method", method],
  [":scheme", "http"],
  [":path", path],
  [":authority", "latchkey.test"],
  ...more,
];

/** An answer without what differs from call to call. */
export function comparable({ headers, body, ...answer }: Answer) {
  const { date, "x-request-id": requestId, ...rest } = headers;
  return { ...answer, headers: rest, body: body.toString("latin1") };
}

/** Says that an answer is that of a good gRPC call, and what its messages hold. */
export function grpcAnswered(answer: Answer): string[] {
  assert.deepEqual(
    { status: answer.status, reset: answer.reset, code: answer.trailers?.["grpc-status"] },
    { status: 200, reset: undefined, code: "0" },
  );
  return grpcValues(answer.body).map(String);
}

/** Says that a connection serves calls. */
export async function assertServes(connection: Connection): Promise<void> {
  const stream = connection.request(grpc(), grpcMessage("still here"));
  assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["still here"]);
}

let holds = 0;

/** Begins a call that waits, and resolves once its handler was called. */
export async function hold(served: Served, connection: Connection, method: Method = "Unary") {
  const name = `call ${holds++}`;
  const requestId = `${name.replace(" ", "-")}-${served.port}`;
  const stream = connection.newStream();
  connection.send(
    headers(stream, grpc(method, [["x-request-id", requestId]])),
    data(stream, grpcMessage(`hold ${name}`), method === "BidiStream" ? 0 : flag.endStream),
  );
  const look = () => served.held.get(name);
  const call = (await until(look, (found) => found !== undefined)) as HeldCall;
  return { stream, call, requestId };
}
