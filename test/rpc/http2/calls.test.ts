/** Calls on connections that carry many, each answered right and alike with and without the lean unary path. */
import assert from "node:assert/strict";
import { flag } from "../../faults/frames.ts";
import { type Connection, data, headers } from "./connection.ts";
import type { Fields } from "./hpack.ts";
import {
  assertServes,
  comparable,
  connect,
  get,
  grpc,
  grpcAnswered,
  grpcMessage,
  grpcValues,
  hold,
  message,
  pattern,
  servedBothWays,
  to,
} from "./served.ts";

const bothWays = servedBothWays();

const both = flag.endHeaders | flag.endStream;
const withType = (type: string, more: Fields = []): Fields => [
  ...to("/test.Fixture/Unary"),
  ["content-type", type],
  ...more,
];
const connectGet = `/test.Fixture/Unary?encoding=proto&base64=1&connect=v1&message=${Buffer.from(message("hello")).toString("base64url")}`;

/** With what status each is answered; undefined as a body: END_STREAM is on the headers. */
const requests: readonly (readonly [
  name: string,
  status: number,
  fields: Fields,
  body: Uint8Array | undefined,
])[] = [
  ["a gRPC call", 200, grpc(), grpcMessage("hello")],
  ["a gRPC call of an empty message", 200, grpc(), grpcMessage("")],
  ["a gRPC call without a message", 200, grpc(), Buffer.alloc(0)],
  ["a gRPC call that ends with its headers", 200, grpc(), undefined],
  ["a gRPC call of half a message", 200, grpc(), grpcMessage("hello").subarray(0, 9)],
  ["a gRPC call of two messages", 200, grpc(), Buffer.concat([grpcMessage("a"), grpcMessage("b")])],
  ["a gRPC call with a deadline", 200, grpc("Unary", [["grpc-timeout", "10S"]]), grpcMessage("hello")],
  ["a gRPC call with content-length", 200, grpc("Unary", [["content-length", "12"]]), grpcMessage("hello")],
  ["a gRPC call without te", 200, grpc().filter(([name]) => name !== "te"), grpcMessage("hello")],
  ["a gRPC call by GET", 415, grpc().map(([n, v]) => [n, n === ":method" ? "GET" : v] as const), undefined],
  [
    "a gRPC call without a method",
    200,
    [...to("/test.Fixture/None"), ["content-type", "application/grpc"]],
    grpcMessage(""),
  ],
  ["a gRPC-Web call", 200, withType("application/grpc-web+proto"), grpcMessage("hello")],
  ["a Connect call", 200, connect(), message("hello")],
  ["a Connect call that ends with its headers", 200, connect(), undefined],
  ["a Connect call in JSON", 200, withType("application/json"), Buffer.from('"aGVsbG8="')],
  ["a Connect call in bad JSON", 400, withType("application/json"), Buffer.from('"')],
  ["a Connect call by GET", 200, get(connectGet), undefined],
  ["a Connect call by HEAD", 405, get(connectGet, "HEAD"), undefined],
  ["a call without a content-type", 415, to("/test.Fixture/Unary"), message("hello")],
  ["a call of another content-type", 415, withType("text/plain"), message("hello")],
  ["a call by PUT", 405, connect().map(([n, v]) => [n, n === ":method" ? "PUT" : v] as const), message("")],
  ["an unknown path", 404, to("/no.Such/Method"), Buffer.alloc(0)],
  ["GET", 200, get(), undefined],
  ["GET with an empty body", 200, get(), Buffer.alloc(0)],
  ["HEAD", 200, get("/healthz", "HEAD"), undefined],
  ["OPTIONS of everything", 404, get("*", "OPTIONS"), undefined],
  ["OPTIONS", 404, get("/healthz", "OPTIONS"), undefined],
  [
    "a request without :authority and with host",
    200,
    [...get().filter(([name]) => name !== ":authority"), ["host", "latchkey.test"]],
    undefined,
  ],
];

for (const [name, status, fields, body] of requests) {
  bothWays(`${name} is answered ${status}`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    if (body === undefined) connection.send(headers(stream, fields, both));
    else connection.send(headers(stream, fields), data(stream, body, flag.endStream));
    const answer = await connection.answer(stream);
    assert.equal(answer.status, status);
    if (fields[0]?.[1] === "HEAD") assert.equal(answer.body.length, 0);
    await assertServes(connection);
    return comparable(answer);
  });
}

for (const [name, fields, body] of [
  ["gRPC", grpc("Unary", [["expect", "100-continue"]]), grpcMessage("hello")],
  ["Connect", connect([["expect", "100-continue"]]), message("hello")],
  ["a stream", grpc("ClientStream", [["expect", "100-continue"]]), grpcMessage("hello")],
] as const) {
  bothWays(`a client of ${name} that expects it is told to go on, and then answered`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    connection.send(headers(stream, fields));
    await connection.until(() => connection.soFar(stream).informational[0], "100 Continue");
    assert.equal(connection.soFar(stream).status, undefined);
    connection.send(data(stream, body, flag.endStream));
    const answer = await connection.answer(stream);
    assert.deepEqual(answer.informational, [100]);
    assert.equal(answer.status, 200);
    return comparable(answer);
  });
}

bothWays("a client that is refused is not told to go on", async (t, served) => {
  const connection = served.open(t);
  const stream = connection.newStream();
  connection.send(headers(stream, [...to("/no.Such/Method"), ["expect", "100-continue"]]));
  const answer = await connection.answer(stream);
  assert.deepEqual([answer.informational, answer.status], [[], 404]);
});

bothWays(
  "two thousand calls on one connection, a hundred at once, are each answered right",
  async (t, served) => {
    const connection = served.open(t);
    let next = 0;
    async function caller(): Promise<void> {
      while (next < 2000) {
        const n = next++;
        const text = `call ${n} ${"x".repeat(n % 300)}`;
        if (n % 2 === 0) {
          const stream = connection.newStream();
          connection.send(headers(stream, grpc()));
          await connection.sendBody(stream, grpcMessage(text));
          assert.deepEqual(grpcAnswered(await connection.answer(stream)), [text]);
        } else {
          const stream = connection.newStream();
          connection.send(headers(stream, connect()));
          await connection.sendBody(stream, message(text));
          const answer = await connection.answer(stream);
          assert.equal(answer.status, 200);
          assert.ok(answer.body.equals(message(text)));
        }
      }
    }
    await Promise.all(Array.from({ length: 100 }, caller));
    assert.equal(connection.goaway, undefined);
  },
);

/** Says one message after another, each once the one before was answered. */
async function converse(connection: Connection, turns: number): Promise<void> {
  const stream = connection.newStream();
  connection.send(headers(stream, grpc("BidiStream")));
  let bytes = 0;
  for (let n = 0; n < turns; n++) {
    const said = grpcMessage(`turn ${n}`);
    bytes += said.length;
    await connection.sendBody(stream, said, { end: false });
    await connection.until(() => connection.soFar(stream).body.length === bytes || undefined, `turn ${n}`);
  }
  await connection.sendBody(stream, Buffer.alloc(0));
  const answer = await connection.answer(stream);
  assert.deepEqual(
    grpcAnswered(answer),
    Array.from({ length: turns }, (_, n) => `turn ${n}`),
  );
}

bothWays("streams of every kind go on beside many unary calls of one connection", async (t, served) => {
  const connection = served.open(t);
  const waiting = await hold(served, connection, "ServerStream");

  async function unary(): Promise<void> {
    for (let n = 0; n < 40; n++) {
      const stream = connection.newStream();
      connection.send(headers(stream, grpc()));
      await connection.sendBody(stream, grpcMessage(`unary ${n}`));
      assert.deepEqual(grpcAnswered(await connection.answer(stream)), [`unary ${n}`]);
    }
  }
  async function serverStream(): Promise<void> {
    const stream = connection.newStream();
    connection.send(headers(stream, grpc("ServerStream")));
    await connection.sendBody(stream, grpcMessage("large 200000"));
    const [first, ...rest] = grpcValues((await connection.answer(stream)).body);
    assert.equal(String(first), "large 200000");
    assert.deepEqual(rest, Array(200).fill(pattern(1000)));
  }
  async function clientStream(): Promise<void> {
    const stream = connection.newStream();
    connection.send(headers(stream, grpc("ClientStream")));
    for (let n = 0; n < 50; n++)
      await connection.sendBody(stream, grpcMessage(pattern(5000)), { end: false });
    await connection.sendBody(stream, Buffer.alloc(0));
    assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["50 messages, 250000 bytes"]);
  }
  await Promise.all([
    ...Array.from({ length: 10 }, unary),
    ...Array.from({ length: 3 }, serverStream),
    ...Array.from({ length: 3 }, clientStream),
    ...Array.from({ length: 5 }, () => converse(connection, 20)),
  ]);
  // What has waited all the while is still there.
  assert.equal(waiting.call.signal.aborted, false);
  waiting.call.release();
  assert.equal(grpcAnswered(await connection.answer(waiting.stream)).length, 1);
});

for (const type of [
  "application/grpc+proto ;a=b",
  "application/grpc-web+proto ;a",
  "application/connect+proto ; a",
]) {
  bothWays(`an unknown method is told of to a client of the type "${type}"`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    const fields = to("/no.Such/Method").filter(([name]) => name !== "content-type");
    connection.send(headers(stream, [...fields, ["content-type", type]], flag.endHeaders | flag.endStream));
    const answer = await connection.answer(stream);
    assert.equal(answer.status, 200);
    assert.equal(answer.reset, undefined);
  });
}
