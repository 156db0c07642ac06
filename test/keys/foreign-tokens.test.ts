/** Tokens of another shape that nobody has: what they are told, what is logged, and what they cost. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { noteSecret } from "../harness/secrets.ts";
import { startServer, type TestServer } from "../harness/server.ts";
import { statementsSeen, watchStatements } from "../harness/statements-seen.ts";
import { until } from "../harness/until.ts";

const foreign = {
  django: noteSecret("django-9d3c7b1a5f0e"),
  unkey: noteSecret("unkey_3ZabcdefghijklmnopQRSTV"),
  uuid: noteSecret("0c9a1de2-7f6b-4e7e-8f0e-4f1f3a0f8a11"),
  hex: noteSecret("5f0e9d3c7b1a5f0e9d3c7b1a5f0e9d3c7b1a5f0e"),
  "of our prefix": noteSecret(`lk_${"0Az9Bb".repeat(6)}00`),
};

for (const imported of [false, true]) {
  describe(imported ? "where there are imported keys" : "where there are none", () => {
    let latchkey: TestServer;
    before(async () => {
      latchkey = await startServer();
      if (!imported) return;
      const { id } = await latchkey.asStaff.users.createUser({ username: "migrated" });
      const hash = createHash("sha256").update(noteSecret("django-that-exists")).digest("hex");
      await latchkey.asStaff.keys.importApiKeys({ apiKeys: [{ hash, userId: id, name: "one" }] });
    });
    after(() => latchkey.close());

    const rowsOf = async (requestId: string, count: number) =>
      until(
        async () =>
          await latchkey.sql`
          SELECT code, denial_reason, credential_kind, user_id, api_key_id FROM request_logs WHERE request_id = ${requestId}`,
        (rows) => rows.length >= count,
      );

    for (const [shape, token] of Object.entries(foreign)) {
      test(`${shape}: it is told to be no API key and logged as malformed`, async () => {
        const headers = { "x-request-id": shape.replaceAll(" ", "-") };
        for (let i = 0; i < 2; i++) {
          const error = await latchkey
            .as(token)
            .users.getUser({ userId: 1n }, { headers })
            .then(() => assert.fail("it was answered"), ConnectError.from);
          assert.deepEqual([error.code, error.rawMessage], [Code.Unauthenticated, "invalid API key"]);
        }
        for (const row of await rowsOf(headers["x-request-id"], 2)) {
          assert.deepEqual(
            { ...row },
            {
              code: Code.Unauthenticated,
              denial_reason: "MALFORMED",
              credential_kind: "api_key",
              user_id: null,
              api_key_id: null,
            },
          );
        }
      });
    }

    test("sending them again and again costs no SELECT", async () => {
      const send = (headers: Record<string, string>) =>
        Promise.all(
          Object.values(foreign).map((token) =>
            latchkey
              .as(token)
              .users.getUser({ userId: 1n }, { headers })
              .catch(() => {}),
          ),
        );
      await send({ "x-request-id": "warm" });
      await rowsOf("warm", 5);
      await watchStatements(latchkey.sql);
      for (let round = 0; round < 40; round++) await send({ "x-request-id": "steady" });
      await rowsOf("steady", 200);
      const selects = (await statementsSeen(latchkey.sql)).filter(
        ({ query }) => /select/i.test(query) && /api_keys/i.test(query),
      );
      assert.deepEqual(selects, []);
    });
  });
}
