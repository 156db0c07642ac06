/** gRPC-Web text of a great many parts, each with padding of its own, goes by Connect's path, to the same answer. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { codecOf } from "../../src/rpc/lean/codec.ts";
import { readMessage } from "../../src/rpc/lean/request-message.ts";
import { startServer, type TestServer } from "../harness/server.ts";

let server: TestServer;
before(async () => {
  server = await startServer();
});
after(() => server.close());

const contentType = "application/grpc-web-text+json";

/** A call for user 1 in so many bytes, every two of them encoded by themselves. */
function partsOf(bytes: number): Buffer {
  const message = Buffer.from('{"userId":"1"}'.padEnd(bytes - 5));
  const frame = Buffer.concat([Buffer.alloc(5), message]);
  frame.writeUInt32BE(message.length, 1);
  const pairs = Array.from({ length: bytes / 2 }, (_, n) => frame.toString("base64", 2 * n, 2 * n + 2));
  return Buffer.from(pairs.join(""));
}

for (const [bytes, isLean] of [
  [24, true],
  [5000, false],
] as const) {
  test(`${bytes / 2} parts are ${isLean ? "read at once" : "left to Connect's path"}, and answered`, async () => {
    const codec = codecOf(contentType);
    assert.ok(codec !== undefined);
    assert.equal(readMessage(codec, partsOf(bytes), false) !== undefined, isLean);
    const answer = await fetch(`${server.url}/api.users.UserService/GetUser`, {
      method: "POST",
      headers: { "content-type": contentType },
      body: partsOf(bytes),
    });
    const text = Buffer.from((await answer.text()).replace(/=+$/, ""), "base64").toString();
    assert.match(text, /"username":"admin"/);
    assert.match(text, /grpc-status: 0/);
  });
}
