/** Many streams of one user over the request log: they leave room for others. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey.close());

for (const [name, most] of [
  ["tailRequestLogs", 20],
  ["exportRequestLogs", 10],
] as const) {
  test(`a user has ${most} streams of ${name} at once, others have theirs, and ended ones make room`, async () => {
    const { token, userId } = await createUserAndKey(latchkey.asStaff, name);
    // More than one stream's window takes, so that an export that is not read does not end.
    await latchkey.sql`
      INSERT INTO request_logs (time, id, service, method, protocol, code, user_id, credential_kind, duration_us,
        request_id, instance_id, user_agent)
      SELECT now(), gen_random_uuid(), 's', 'M', 'grpc', 0, ${String(userId)}::bigint, 'api_key', 1, 'r', gen_random_uuid(),
        repeat('u', 512) FROM generate_series(1, 20000)`;
    const open = async (clients = latchkey.as(token)) => {
      const end = new AbortController();
      const stream = clients.logs[name]({}, { signal: end.signal })[Symbol.asyncIterator]();
      await stream.next();
      return () => {
        end.abort();
        stream.next().catch(() => {});
      };
    };
    const ends = await Promise.all(Array.from({ length: most }, () => open()));
    await assert.rejects(open(), (error) => ConnectError.from(error).code === Code.ResourceExhausted);
    (await open(latchkey.asStaff))();
    for (const end of ends) end();
    const again = await until(
      () => open().catch(() => undefined),
      (end) => end !== undefined,
    );
    again?.();
  });
}
