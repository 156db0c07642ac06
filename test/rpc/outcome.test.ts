/** What a row says of an RPC is what its caller was told. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { collect, fixtureClient, protocols, startFixture } from "./protocols.ts";

const limit = 4096;
const outcomes: Record<string, { fail: () => Uint8Array; code: Code }> = {
  "throws aborted": {
    fail() {
      throw new ConnectError("two of you wrote at once", Code.Aborted);
    },
    code: Code.Aborted,
  },
  "answers more than may be written": { fail: () => new Uint8Array(2 * limit), code: Code.ResourceExhausted },
  "passes on a code that is none": {
    fail() {
      throw new ConnectError("from elsewhere", 99999 as Code);
    },
    code: Code.Unknown,
  },
};

let latchkey: TestServer;
let fail: () => Uint8Array;
before(async () => {
  latchkey = await startFixture(
    {
      unary: () => ({ value: fail() }),
      async *serverStream() {
        yield { value: fail() };
      },
    },
    { maxMessageBytes: limit },
  );
});
after(() => latchkey.close());

for (const protocol of protocols) {
  for (const [name, outcome] of Object.entries(outcomes)) {
    for (const kind of ["unary", "stream"] as const) {
      test(`${protocol.name}, ${kind}: a handler that ${name} is logged as its caller was told`, async () => {
        fail = outcome.fail;
        await latchkey.sql`DELETE FROM request_logs`;
        const client = fixtureClient(latchkey, protocol);
        const call = kind === "unary" ? client.unary({}) : collect(client.serverStream({}));
        const error = await call.then(() => assert.fail("it was answered"), ConnectError.from);
        const [row] = await until(
          async () => await latchkey.sql`SELECT code FROM request_logs`,
          (rows) => rows.length === 1,
        );
        assert.equal(row?.code, outcome.code);
        if (outcome.code !== Code.Unknown) assert.equal(error.code, outcome.code);
      });
    }
  }
}

test("what a caller can put into an error is cut before it is kept", async () => {
  await latchkey.sql`DELETE FROM request_logs`;
  const said = "x".repeat(3000);
  fail = () => {
    throw new ConnectError(said, Code.InvalidArgument);
  };
  const response = await fetch(`${latchkey.url}/test.Fixture/Unary`, {
    method: "POST",
    headers: { "content-type": "application/json", "user-agent": "u".repeat(3000) },
    body: '""',
  });
  assert.equal(response.status, 400);
  const [row] = await until(
    async () =>
      await latchkey.sql`SELECT length(error_message) AS message, length(user_agent) AS agent FROM request_logs`,
    (rows) => rows.length === 1,
  );
  assert.deepEqual({ ...row }, { message: 512, agent: 512 });
});
