/** The preface, SETTINGS and PING (RFC 9113, sections 3.4, 6.5 and 6.7). */
import assert from "node:assert/strict";
import { flag, frameType, magic } from "../../faults/frames.ts";
import { type Connection, data, headers, ping, settingId, settings, settingsAck } from "./connection.ts";
import {
  assertServes,
  comparable,
  connect,
  grpc,
  grpcAnswered,
  grpcMessage,
  message,
  pattern,
  servedBothWays,
} from "./served.ts";

const bothWays = servedBothWays();

bothWays("the server sends SETTINGS first, and acknowledges the client's", async (t, served) => {
  const connection = served.open(t);
  await connection.until(() => connection.acknowledged === 1 || undefined, "the acknowledgement");
  assert.equal(connection.received[0]?.type, frameType.settings);
  const { maxConcurrentStreams, maxHeaderListSize } = settingId;
  assert.equal(connection.serverSettings.get(maxConcurrentStreams), 256);
  assert.equal(connection.serverSettings.get(maxHeaderListSize), 16_384);
  await assertServes(connection);
});

bothWays(
  "a request that comes with the preface, before any SETTINGS of the server, is answered",
  async (t, served) => {
    const connection = served.open(t, { greets: false });
    connection.newStream();
    connection.send(magic, settings([]), headers(1, grpc()), data(1, grpcMessage("at once"), flag.endStream));
    const answer = await connection.answer(1);
    assert.deepEqual(grpcAnswered(answer), ["at once"]);
    return comparable(answer);
  },
);

for (const [name, bytes, expected] of [
  ["with another frame than SETTINGS", [magic, ping()], ["GOAWAY PROTOCOL_ERROR"]],
  ["that starts with an acknowledgement of SETTINGS", [magic, settingsAck], ["GOAWAY PROTOCOL_ERROR"]],
  // Node's code for it is INTERNAL_ERROR; section 3.4 lets GOAWAY be left out.
  [
    "that goes wrong at its end",
    [magic.subarray(0, 20), Buffer.from("XX\r\n")],
    ["GOAWAY PROTOCOL_ERROR", "GOAWAY INTERNAL_ERROR", "closed"],
  ],
] as const) {
  bothWays(`a preface ${name} ends the connection`, async (t, served) => {
    const connection = served.open(t, { greets: false });
    connection.socket.write(Buffer.concat(bytes));
    await connection.until(() => connection.closed || undefined, "the end");
    const outcome = connection.goaway === undefined ? "closed" : `GOAWAY ${connection.goaway.code}`;
    assert.ok((expected as readonly string[]).includes(outcome), outcome);
    await assertServes(served.open(t));
  });
}

bothWays("SETTINGS of extensions are taken for what they are: unknown", async (t, served) => {
  const connection = served.open(t, {
    settings: [
      [8, 1], // ENABLE_CONNECT_PROTOCOL
      [9, 1], // NO_RFC7540_PRIORITIES
      [0xffff, 2 ** 32 - 1],
    ],
  });
  await assertServes(connection);
});

bothWays("each SETTINGS is acknowledged once", async (t, served) => {
  const connection = served.open(t);
  connection.send(...Array.from({ length: 50 }, (_, i) => settings([[settingId.maxFrameSize, 16_384 + i]])));
  await connection.settled();
  assert.equal(connection.acknowledged, 51);
});

bothWays("each PING is answered once, in order, as it came", async (t, served) => {
  const connection = served.open(t);
  const payloads = Array.from({ length: 50 }, (_, i) => Buffer.from(`ping ${i}`.padEnd(8)));
  connection.send(...payloads.map((payload) => ping(payload)));
  await connection.settled();
  const answered = connection.received.filter(({ type }) => type === frameType.ping);
  assert.deepEqual(
    answered.slice(0, 50).map(({ flags, stream, payload }) => [flags, stream, payload.toString()]),
    payloads.map((payload) => [flag.ack, 0, payload.toString()]),
  );
  await connection.settled();
  assert.equal(connection.received.filter(({ type }) => type === frameType.ping).length, 54);
});

/** Some that differ, so that there is something to index, and some that are the same. */
async function callSome(connection: Connection) {
  const answers = [];
  for (let i = 0; i < 6; i++) {
    const isConnect = i % 2 === 1;
    const fields = isConnect ? connect() : grpc();
    const body = isConnect ? message(`call ${i}`) : grpcMessage(`call ${i}`);
    answers.push(comparable(await connection.answer(connection.request(fields, body))));
  }
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(6).fill(200),
  );
  return answers;
}

for (const [name, sizes] of [
  ["none at all", [0]],
  ["room for one field", [64]],
  ["a lower one, then a higher one", [0, 65_536]],
  ["some in one frame", [4096, 0, 100]],
  ["one above what any server would use", [2 ** 32 - 1]],
] as const) {
  bothWays(`the table of an answer's headers heeds HEADER_TABLE_SIZE: ${name}`, async (t, served) => {
    const connection = served.open(t);
    // Something is in the table before it is lowered.
    const before = await callSome(connection);
    connection.send(settings(sizes.map((size) => [settingId.headerTableSize, size])));
    await connection.settled();
    // The client's decoder has the table of this size, and fails where an answer does not say so or names more.
    const after = await callSome(connection);
    assert.deepEqual(after, before);
    return after;
  });
}

bothWays(
  "an answer's frames are no larger than MAX_FRAME_SIZE, also of one that grew and shrank",
  async (t, served) => {
    const connection = served.open(t);
    for (const maxFrameSize of [100_000, 16_384, 20_000]) {
      connection.send(settings([[settingId.maxFrameSize, maxFrameSize]]));
      await connection.settled();
      const seenBefore = connection.received.length;
      const answer = await connection.answer(connection.request(grpc(), grpcMessage("large 300000")));
      assert.deepEqual(grpcAnswered(answer), [pattern(300_000).toString()]);
      const longest = Math.max(...connection.received.slice(seenBefore).map(({ payload }) => payload.length));
      assert.ok(longest <= maxFrameSize && longest >= 1000, `${longest} bytes`);
    }
  },
);

bothWays("a small MAX_HEADER_LIST_SIZE of the client keeps no answer from it", async (t, served) => {
  const connection = served.open(t, { settings: [[settingId.maxHeaderListSize, 1_000]] });
  await assertServes(connection);
});
