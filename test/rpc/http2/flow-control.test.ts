/** Flow control both ways (RFC 9113, sections 5.2 and 6.9). The client notes what comes beyond its windows. */
import assert from "node:assert/strict";
import { type Connection, data, headers, settingId, settings, windowUpdate } from "./connection.ts";
import {
  assertServes,
  comparable,
  connect,
  grpc,
  grpcAnswered,
  grpcMessage,
  grpcValues,
  message,
  pattern,
  servedBothWays,
  to,
} from "./served.ts";

const bothWays = servedBothWays();

const { initialWindowSize } = settingId;
const asked = grpcMessage("large 300000");
/** Of the answer to that: its message's length, a tag and a length within, and the flag and length before it. */
const answerBytes = 300_000 + 4 + 5;

/** Resolves once so many bytes of a body have come. */
const arrived = (connection: Connection, stream: number, bytes: number) =>
  connection.until(
    () => (connection.soFar(stream).body.length >= bytes ? true : undefined),
    `${bytes} bytes on stream ${stream}`,
  );

function assertLarge(body: Buffer): void {
  assert.deepEqual(grpcValues(body), [pattern(300_000)]);
}

for (const [name, fields, body] of [
  ["gRPC", grpc(), asked],
  ["Connect", connect(), message("large 300000")],
  ["a stream", grpc("ServerStream"), asked],
] as const) {
  bothWays(
    `an answer of ${name} fills its window, waits, and goes on as the window is opened`,
    async (t, served) => {
      const connection = served.open(t, { settings: [[initialWindowSize, 1000]] });
      connection.allow(0, 10_000_000);
      const stream = connection.request(fields, body);
      await arrived(connection, stream, 1000);
      await connection.settled();
      assert.equal(connection.soFar(stream).body.length, 1000);
      assert.equal(connection.soFar(stream).status, 200);
      // Others do not wait behind it.
      await assertServes(connection);
      for (const more of [1, 1, 5000, 20_000]) {
        const before = connection.soFar(stream).body.length;
        connection.allow(stream, more);
        await arrived(connection, stream, before + more);
      }
      connection.allow(stream, 1_000_000);
      const answer = await connection.answer(stream);
      return comparable(answer);
    },
  );
}

bothWays("a window that is opened a byte at a time lets as much through", async (t, served) => {
  const connection = served.open(t, { settings: [[initialWindowSize, 0]] });
  const stream = connection.request(grpc(), grpcMessage("large 300"));
  await connection.until(() => connection.soFar(stream).status, "the headers, which need no window");
  for (let n = 1; n <= 100; n++) {
    connection.allow(stream, 1);
    await arrived(connection, stream, n);
  }
  await connection.settled();
  assert.equal(connection.soFar(stream).body.length, 100);
  // Many at once add up.
  connection.allow(stream, 1, 400);
  const answer = await connection.answer(stream);
  assert.deepEqual(grpcAnswered(answer), [pattern(300).toString()]);
});

bothWays("answers share the window of their connection", async (t, served) => {
  const connection = served.open(t, { settings: [[initialWindowSize, 1_000_000]] });
  const streams = Array.from({ length: 8 }, () => connection.request(grpc(), asked));
  const sum = () => streams.reduce((bytes, stream) => bytes + connection.soFar(stream).body.length, 0);
  await connection.until(() => (sum() === 65_535 ? true : undefined), "the connection's window to be full");
  await connection.settled();
  assert.equal(sum(), 65_535);
  let total = 65_535;
  for (const more of [1, 10_000, 500_000]) {
    connection.allow(0, more);
    total += more;
    await connection.until(() => (sum() === total ? true : undefined), `${total} bytes`);
  }
  connection.allow(0, 8 * answerBytes);
  for (const stream of streams) assertLarge((await connection.answer(stream)).body);
});

bothWays("a stream that is reset leaves the connection's window to the others", async (t, served) => {
  const connection = served.open(t, { settings: [[initialWindowSize, 1_000_000]] });
  const first = connection.request(grpc(), asked);
  await arrived(connection, first, 65_535);
  const second = connection.request(grpc(), asked);
  connection.reset(first);
  // Node ends no body before there is window for a byte more, though trailers need none.
  connection.allow(0, answerBytes + 1);
  assertLarge((await connection.answer(second)).body);
});

bothWays(
  "INITIAL_WINDOW_SIZE changes the windows of open streams, to below nothing too",
  async (t, served) => {
    const connection = served.open(t, { settings: [[initialWindowSize, 50_000]] });
    connection.allow(0, 10_000_000);
    const stream = connection.request(grpc(), asked);
    await arrived(connection, stream, 50_000);
    // The window is now at -40,000.
    connection.send(settings([[initialWindowSize, 10_000]]));
    await connection.settled();
    connection.allow(stream, 39_999);
    await connection.settled();
    assert.equal(connection.soFar(stream).body.length, 50_000);
    connection.allow(stream, 2);
    await arrived(connection, stream, 50_001);
    await connection.settled();
    assert.equal(connection.soFar(stream).body.length, 50_001);
    // It grows by as much for a stream that waits.
    connection.send(settings([[initialWindowSize, 10_100]]));
    await arrived(connection, stream, 50_101);
    await connection.settled();
    assert.equal(connection.soFar(stream).body.length, 50_101);
    // A new stream has the new size.
    const other = connection.request(grpc(), asked);
    await arrived(connection, other, 10_100);
    await connection.settled();
    assert.equal(connection.soFar(other).body.length, 10_100);
    connection.send(settings([[initialWindowSize, 2 ** 31 - 1 - answerBytes]]));
    for (const each of [stream, other]) assertLarge((await connection.answer(each)).body);
  },
);

bothWays("a window that SETTINGS raise above 2^31-1 is an error", async (t, served) => {
  const connection = served.open(t, { settings: [] });
  const stream = connection.newStream();
  connection.send(headers(stream, grpc()), windowUpdate(stream, 2 ** 31 - 1 - 65_535));
  await connection.settled();
  connection.send(settings([[initialWindowSize, 65_536]]));
  assert.equal(await connection.outcome(stream), "GOAWAY FLOW_CONTROL_ERROR");
});

for (const [name, options] of [
  ["in large frames", {}],
  ["in frames of 100 bytes", { frameSize: 100 }],
  ["in frames that are mostly padding", { frameSize: 1000, padding: 255 }],
] as const) {
  bothWays(`a request larger than every window is taken, ${name}`, async (t, served) => {
    const connection = served.open(t);
    const large = pattern(700_000);
    const unary = connection.newStream();
    connection.send(headers(unary, grpc()));
    const stream = connection.newStream();
    connection.send(headers(stream, grpc("ClientStream")));
    const messages = Buffer.concat(Array.from({ length: 7 }, () => grpcMessage(pattern(100_000))));
    await Promise.all([
      connection.sendBody(unary, grpcMessage(large), options),
      connection.sendBody(stream, messages, options),
    ]);
    const [answer] = grpcValues((await connection.answer(unary)).body);
    assert.ok(answer?.equals(large));
    assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["7 messages, 700000 bytes"]);
  });
}

bothWays(
  "a hundred requests of which each is larger than its share of the window are taken",
  async (t, served) => {
    const connection = served.open(t);
    const streams = Array.from({ length: 100 }, () => connection.newStream());
    connection.send(...streams.map((stream) => headers(stream, grpc())));
    await Promise.all(
      streams.map((stream) =>
        connection.sendBody(stream, grpcMessage(pattern(20_000 + stream)), { frameSize: 3000 }),
      ),
    );
    for (const stream of streams) {
      const [answer] = grpcValues((await connection.answer(stream)).body);
      assert.ok(answer?.equals(pattern(20_000 + stream)));
    }
  },
);

bothWays(
  "what is sent to calls that are refused or reset is given back to the connection's window",
  async (t, served) => {
    const connection = served.open(t);
    // Of a message that is longer.
    const body = grpcMessage(pattern(100_000)).subarray(0, 60_000);
    for (let n = 0; n < 10; n++) {
      // Answered before their bodies have come, which are more in all than the connection's window.
      const refused = connection.newStream();
      connection.send(headers(refused, to("/no.Such/Method")));
      await connection.sendBody(refused, body, { end: false });
      const reset = connection.newStream();
      connection.send(headers(reset, grpc("ClientStream")));
      await connection.sendBody(reset, body, { end: false });
      connection.reset(reset);
    }
    const stream = connection.newStream();
    connection.send(headers(stream, grpc("ClientStream")));
    await connection.sendBody(stream, grpcMessage(pattern(100_000)));
    assert.deepEqual(grpcAnswered(await connection.answer(stream)), ["1 messages, 100000 bytes"]);
  },
);

bothWays("a client that sends beyond its window is stopped", async (t, served) => {
  const connection = served.open(t);
  const stream = connection.newStream();
  // Its handler reads one message and no further.
  connection.send(headers(stream, grpc("BidiStream")), data(stream, grpcMessage("hold beyond")));
  await connection.until(() => served.held.get("beyond"), "the handler");
  for (let sent = 0; sent < 200 && !connection.closed; sent++)
    connection.send(data(stream, Buffer.alloc(16_384)));
  // An error of the stream or of the connection, at the server's choice (section 5.2.2).
  assert.match(await connection.outcome(stream), /^(GOAWAY|RST_STREAM) FLOW_CONTROL_ERROR$/);
  await assertServes(served.open(t));
});

bothWays(
  "a handler that does not read keeps its client from sending more than the windows",
  async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    connection.send(headers(stream, grpc("BidiStream")), data(stream, grpcMessage("hold back")));
    const held = await connection.until(() => served.held.get("back"), "the handler");
    const most = 4_000_000;
    const sending = connection.sendBody(stream, grpcMessage(pattern(most)));
    await connection.settled();
    await connection.settled();
    const given = connection.given(stream);
    assert.ok(given < most / 4, `${given} bytes of window were given to a reader of none`);
    await assertServes(connection);
    held.release();
    await sending;
    const answer = await connection.answer(stream);
    assert.deepEqual(
      grpcValues(answer.body).map(({ length }) => length),
      [9, most],
    );
  },
);
