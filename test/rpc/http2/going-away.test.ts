/** GOAWAY, from either side (RFC 9113, section 6.8): what has begun is answered. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { flag, frame, frameType, uint32 } from "../../faults/frames.ts";
import type { Connection } from "./connection.ts";
import { data, headers } from "./connection.ts";
import {
  grpc,
  grpcAnswered,
  grpcMessage,
  hold,
  type Served,
  servedBothWays,
  settings,
  startServed,
} from "./served.ts";

const bothWays = servedBothWays();

const goaway = (code: number, lastStream = 0) =>
  frame(frameType.goaway, 0, 0, Buffer.concat([uint32(lastStream), uint32(code), Buffer.from("debug data")]));

const ended = (connection: Connection) => connection.until(() => connection.closed || undefined, "the end");

bothWays("calls that run when their client says GOAWAY are answered", async (t, served) => {
  const connection = served.open(t);
  const unary = await hold(served, connection);
  const stream = await hold(served, connection, "ServerStream");
  connection.send(goaway(0));
  await connection.settled();
  assert.equal(connection.closed, false);
  for (const { call } of [unary, stream]) {
    assert.equal(call.signal.aborted, false);
    call.release();
  }
  for (const each of [unary, stream]) {
    assert.equal(grpcAnswered(await connection.answer(each.stream)).length, 1);
  }
});

bothWays(
  "what a client sends for a stream that it began after GOAWAY ends no call that runs",
  async (t, served) => {
    const connection = served.open(t);
    const { call, stream } = await hold(served, connection);
    connection.send(goaway(0));
    await connection.settled();
    const late = stream + 2;
    connection.send(
      headers(late, grpc()),
      frame(frameType.windowUpdate, 0, late, uint32(1000)),
      data(late, grpcMessage("late")),
      frame(frameType.rstStream, 0, late, uint32(8)),
    );
    await connection.settled();
    assert.equal(call.signal.aborted, false);
    call.release();
    assert.equal(grpcAnswered(await connection.answer(stream)).length, 1);
  },
);

for (const code of [2, 0x4242]) {
  bothWays(`a client that says GOAWAY with error ${code} harms no other connection`, async (t, served) => {
    const connection = served.open(t);
    const { call } = await hold(served, connection);
    const other = await hold(served, served.open(t));
    connection.send(goaway(code));
    await connection.settled();
    assert.equal(other.call.signal.aborted, false);
    // Whether its own calls go on or are ended is the server's choice: they end when it leaves.
    connection.socket.destroy();
    if (!call.signal.aborted) {
      await new Promise((resolve) => call.signal.addEventListener("abort", resolve, { once: true }));
    }
    other.call.release();
  });
}

/** Tests of a server that is closed: of each setting, a server of its own. */
function closing(name: string, run: (t: TestContext, served: Served) => Promise<void>): void {
  for (const { name: setting, leanUnary } of settings) {
    test(`${name}, ${setting}`, async (t) => {
      const served = await startServed({ leanUnary });
      t.after(() => served.close());
      await run(t, served);
    });
  }
}

closing(
  "a server that closes answers what has begun, refuses what is new and ends its connections",
  async (t, served) => {
    const busy = served.open(t);
    const calls = [await hold(served, busy), await hold(served, busy, "ServerStream")];
    const resting = served.open(t);
    await resting.settled();
    const closed = served.server.close();
    for (const connection of [busy, resting]) {
      await connection.until(() => connection.goaway, "GOAWAY");
      assert.equal(connection.goaway?.code, "NO_ERROR");
    }
    await ended(resting);
    assert.ok(busy.goaway!.lastStream >= calls[1]!.stream);

    const late = busy.newStream();
    busy.send(headers(late, grpc()), data(late, grpcMessage("too late"), flag.endStream));
    await busy.settled();
    assert.equal(busy.closed, false);

    for (const { call } of calls) {
      assert.equal(call.signal.aborted, false);
      call.release();
    }
    for (const { stream } of calls) assert.equal(grpcAnswered(await busy.answer(stream)).length, 1);
    await ended(busy);
    await closed;
    // Neither reached nor answered, unless to say that it was not.
    const { status, reset } = busy.soFar(late);
    assert.equal(status, undefined);
    assert.ok(reset === undefined || reset === "REFUSED_STREAM", reset);
    assert.ok(!served.reached.has("too late"));
    assert.ok(busy.goaway!.lastStream < late);
  },
);

closing("a server that closes while a body is still to come takes it and answers", async (t, served) => {
  const connection = served.open(t);
  const unary = connection.newStream();
  const stream = connection.newStream();
  const message = grpcMessage("in two parts");
  connection.send(headers(unary, grpc()), data(unary, message.subarray(0, 7)));
  connection.send(headers(stream, grpc("ClientStream")), data(stream, message.subarray(0, 7)));
  await connection.settled();
  const closed = served.server.close();
  await connection.until(() => connection.goaway, "GOAWAY");
  for (const each of [unary, stream]) connection.send(data(each, message.subarray(7), flag.endStream));
  assert.deepEqual(grpcAnswered(await connection.answer(unary)), ["in two parts"]);
  assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["1 messages, 12 bytes"]);
  await ended(connection);
  await closed;
});

closing("a server that closes waits for a client to take its answer", async (t, served) => {
  const connection = served.open(t, { settings: [[4, 1000]] });
  connection.allow(0, 1_000_000);
  const stream = connection.request(grpc(), grpcMessage("large 100000"));
  await connection.until(() => connection.soFar(stream).body.length === 1000 || undefined, "a full window");
  const closed = served.server.close();
  await connection.until(() => connection.goaway, "GOAWAY");
  connection.allow(stream, 200_000);
  const answer = await connection.answer(stream);
  assert.equal(grpcAnswered(answer)[0]?.length, 100_000);
  await ended(connection);
  await closed;
});
