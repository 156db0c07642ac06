/** What cannot be answered is over at once on the lean path too, and what comes after an answer harms nobody. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { assertAnswers, fixtureClient, never, protocols, startFixture } from "./protocols.ts";

let latchkey: TestServer;
before(async () => {
  latchkey = await startFixture(
    {
      unary(request, { responseHeader }) {
        if (request.value.length > 0) return never;
        // Headers takes it; HTTP does not.
        responseHeader.set("x-control", "\x01");
        return {};
      },
    },
    { maxMessageBytes: 64 * 1024 },
  );
});
after(() => latchkey.close());

for (const protocol of protocols) {
  test(`over ${protocol.name}, a header that HTTP does not take ends the call at once`, async () => {
    const timeoutMs = 20_000;
    // Whether the header is refused by the server or by the client: nobody waits for the deadline.
    await fixtureClient(latchkey, protocol)
      .unary({}, { timeoutMs })
      .catch((error: unknown) => assert.notEqual(ConnectError.from(error).code, Code.DeadlineExceeded));
    await assertAnswers(latchkey);
  });
}

test("a client that goes on sending after its deadline was answered is told once, and counted once", async () => {
  const session = connect(latchkey.url);
  try {
    const stream = session.request({
      ":method": "POST",
      ":path": "/test.Fixture/Unary",
      "content-type": "application/proto",
      "connect-timeout-ms": "200",
      "user-agent": "late sender",
    });
    stream.on("error", () => {});
    stream.write(Buffer.alloc(1024));
    const [headers] = await once(stream, "response");
    assert.equal(headers[":status"], 504);
    // More than a message may have: with an answer out, nobody is to say so.
    for (let i = 0; i < 8; i++) stream.write(Buffer.alloc(16 * 1024));
    stream.resume();
    await once(stream, "close");
  } finally {
    session.destroy();
  }
  const rows = await until(
    () => latchkey.sql`SELECT code FROM request_logs WHERE user_agent = 'late sender'`,
    (found) => found.length > 0,
  );
  assert.deepEqual(
    rows.map(({ code }) => code),
    [4],
  );
  await assertAnswers(latchkey);
});
