/** Streams: how many, how they end early, and what is left of them (RFC 9113, sections 5.1, 5.1.2, 6.4 and 8.1). */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import { Code } from "@connectrpc/connect";
import { flag, frame, frameType, magic, uint32 } from "../../faults/frames.ts";
import { until } from "../../harness/until.ts";
import { data, type ErrorCode, headers, reset, settings, windowUpdate } from "./connection.ts";
import {
  assertServes,
  grpc,
  grpcAnswered,
  grpcMessage,
  hold,
  type Method,
  type Served,
  servedBothWays,
  to,
} from "./served.ts";

const maxStreams = 20;
const bothWays = servedBothWays({ maxStreamsPerConnection: maxStreams });

/** The code that a call was logged with, by its request id. */
async function loggedCode(served: Served, requestId: string): Promise<string> {
  const look = () =>
    served.sql<{ code: number }[]>`SELECT code FROM request_logs WHERE request_id = ${requestId}`;
  const [row] = await until(look, (rows) => rows.length > 0);
  return Code[row!.code] ?? "ok";
}

/** What a handler's signal says once it is aborted. */
async function aborted(signal: AbortSignal): Promise<string> {
  if (!signal.aborted) await once(signal, "abort");
  return String(signal.reason);
}

const codes: readonly (readonly [ErrorCode, RegExp, string])[] = [
  ["CANCEL", /\[canceled\]/, "Canceled"],
  ["NO_ERROR", /aborted/, "Canceled"],
  ["INTERNAL_ERROR", /\[internal\]/, "Internal"],
  ["REFUSED_STREAM", /\[unavailable\]/, "Unavailable"],
];

for (const method of ["Unary", "ServerStream", "BidiStream"] as const satisfies Method[]) {
  for (const [code, reason, loggedAs] of codes) {
    bothWays(`RST_STREAM with ${code} ends a running call of ${method}, and no other`, async (t, served) => {
      const connection = served.open(t);
      const { stream, call, requestId } = await hold(served, connection, method);
      const other = await hold(served, connection);
      connection.reset(stream, code);
      assert.match(await aborted(call.signal), reason);
      await connection.settled();
      assert.equal(other.call.signal.aborted, false);
      other.call.release();
      assert.equal(grpcAnswered(await connection.answer(other.stream)).length, 1);
      // Nothing more is sent of what was reset.
      const { ended, trailers } = connection.soFar(stream);
      assert.deepEqual({ ended, trailers }, { ended: false, trailers: undefined });
      const found = await loggedCode(served, requestId);
      // A stream's client that resets it without an error is not said to have canceled it.
      const isQuiet = code === "NO_ERROR" && method !== "Unary" && found === "ok";
      assert.ok(found === loggedAs || isQuiet, found);
      assert.equal(await loggedCode(served, other.requestId), "ok");
    });
  }
}

bothWays(
  "a call that is reset before its message is whole reaches no handler, and is logged as canceled",
  async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    const requestId = `unfinished-${served.port}`;
    const message = grpcMessage("never whole");
    connection.send(
      headers(stream, grpc("Unary", [["x-request-id", requestId]])),
      data(stream, message.subarray(0, 9)),
    );
    await connection.settled();
    connection.send(reset(stream));
    assert.equal(await loggedCode(served, requestId), "Canceled");
    assert.ok(!served.reached.has("never whole"));
    await assertServes(connection);
  },
);

for (const [name, end, loggedAs] of [
  ["is reset", (socket: Socket) => socket.resetAndDestroy(), "Internal"],
  ["is closed", (socket: Socket) => socket.destroy(), "Canceled"],
] as const) {
  bothWays(`a connection that ${name} ends its calls, and no others`, async (t, served) => {
    const connection = served.open(t);
    const calls = [
      await hold(served, connection),
      await hold(served, connection, "ServerStream"),
      await hold(served, connection, "BidiStream"),
    ];
    const other = await hold(served, served.open(t));
    end(connection.socket);
    for (const { call, requestId } of calls) {
      await aborted(call.signal);
      assert.equal(await loggedCode(served, requestId), loggedAs);
    }
    assert.equal(other.call.signal.aborted, false);
    other.call.release();
  });
}

bothWays(
  "streams beyond those that may be open are refused, and taken once others have ended",
  async (t, served) => {
    // A client that has not acknowledged the limit may not know it yet.
    const connection = served.open(t, { greets: false });
    connection.send(magic, settings([]));
    const running = [];
    for (let n = 0; n < maxStreams; n++) running.push(await hold(served, connection));
    const refused = Array.from({ length: 5 }, (_, i) =>
      connection.request(grpc(), grpcMessage(`refused ${i}`)),
    );
    for (const stream of refused) assert.equal((await connection.answer(stream)).reset, "REFUSED_STREAM");
    assert.ok(![...served.reached].some((text) => text.startsWith("refused")));
    // One that ended, and one that was reset, make room.
    running[0]!.call.release();
    await connection.answer(running[0]!.stream);
    connection.reset(running[1]!.stream);
    await aborted(running[1]!.call.signal);
    const later = [
      connection.request(grpc(), grpcMessage("a")),
      connection.request(grpc(), grpcMessage("b")),
    ];
    for (const stream of later) assert.equal(grpcAnswered(await connection.answer(stream)).length, 1);
    for (const { call } of running) call.release();
    for (const { stream } of running.slice(2)) grpcAnswered(await connection.answer(stream));
  },
);

bothWays("a client that knows how many streams may be open gets no more either", async (t, served) => {
  const connection = served.open(t);
  await connection.settled();
  const running = [];
  for (let n = 0; n < maxStreams; n++) running.push(await hold(served, connection));
  const stream = connection.request(grpc(), grpcMessage("one too many"));
  const outcome = await connection.outcome(stream);
  // An error of the stream by section 5.1.2, of either code; nghttp2 ends the connection of who should know better.
  assert.ok(
    ["RST_STREAM REFUSED_STREAM", "RST_STREAM PROTOCOL_ERROR", "GOAWAY PROTOCOL_ERROR"].includes(outcome),
    outcome,
  );
  assert.ok(!served.reached.has("one too many"));
  for (const { call } of running) call.release();
});

bothWays("numbers of streams may be left out, up to the last there is", async (t, served) => {
  const connection = served.open(t);
  for (const stream of [1, 3, 101, 5001, 2 ** 31 - 1]) {
    connection.newStream(stream);
    connection.send(headers(stream, grpc()), data(stream, grpcMessage(`${stream}`), flag.endStream));
    assert.deepEqual(grpcAnswered(await connection.answer(stream)), [`${stream}`]);
  }
});

bothWays(
  "a call that is answered before its body has come is told to send no more of it",
  async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    connection.send(headers(stream, to("/no.Such/Method")), data(stream, Buffer.alloc(1000)));
    const answer = await connection.answer(stream);
    assert.equal(answer.status, 404);
    assert.ok(answer.ended, "the answer is whole");
    const code = await connection.until(() => connection.soFar(stream).reset, "a reset");
    assert.equal(code, "NO_ERROR");
    // What was on its way is not held against the client.
    connection.send(data(stream, Buffer.alloc(1000)), data(stream, Buffer.alloc(1000), flag.endStream));
    await assertServes(connection);
  },
);

const gone = ["lives", "RST_STREAM STREAM_CLOSED", "GOAWAY STREAM_CLOSED"];

/** Of a stream whose call was answered: what may be late is ignored, what may not is an error or ignored. */
const late: readonly (readonly [
  name: string,
  frames: (stream: number) => Uint8Array[],
  allowed: readonly string[],
])[] = [
  ["WINDOW_UPDATE", (stream) => [windowUpdate(stream, 1000)], ["lives"]],
  ["RST_STREAM", (stream) => [reset(stream)], ["lives"]],
  [
    "PRIORITY",
    (stream) => [frame(frameType.priority, 0, stream, Buffer.concat([uint32(0), Buffer.of(1)]))],
    ["lives"],
  ],
  ["an unknown frame", (stream) => [frame(0x42, 0xff, stream)], ["lives"]],
  ["DATA", (stream) => [data(stream, Buffer.alloc(1))], gone],
  ["HEADERS", (stream) => [headers(stream, grpc())], [...gone, "GOAWAY PROTOCOL_ERROR"]],
];

for (const [name, frames, allowed] of late) {
  bothWays(`${name} on a stream that has ended: ${allowed.join(" or ")}`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.request(grpc(), grpcMessage("ended"));
    await connection.answer(stream);
    await connection.settled();
    connection.send(...frames(stream));
    await connection.settled();
    if (connection.closed) {
      assert.ok(allowed.includes(`GOAWAY ${connection.goaway?.code}`), connection.goaway?.code);
      return;
    }
    const code = connection.soFar(stream).reset;
    assert.ok(allowed.includes(code === undefined ? "lives" : `RST_STREAM ${code}`), code);
    await assertServes(connection);
  });
}

bothWays("resets of calls that have just been answered harm none that follow", async (t, served) => {
  const connection = served.open(t);
  for (let n = 0; n < 50; n++) {
    const stream = connection.request(grpc(), grpcMessage("soon reset"));
    // In turn before, at and after its answer.
    if (n % 3 === 1) await connection.until(() => connection.soFar(stream).status, "the answer's headers");
    if (n % 3 === 2) await connection.answer(stream);
    connection.reset(stream);
  }
  await assertServes(connection);
  assert.equal(connection.goaway, undefined);
});
