/** A server that packs all of its rows: what is counted, listed, had by its id and tailed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createUserAndKey, startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

for (const usageDurability of ["batched", "strict"] as const) {
  test(`${usageDurability}: every call that was answered is counted at once, and is in the log once somebody looks`, async (t) => {
    const server = await startServer({ logPackAbove: 0, usageDurability });
    t.after(() => server.close());
    const { apiKeyId, token, userId } = await createUserAndKey(server.asStaff, "caller");
    const { users } = server.as(token);

    const stop = new AbortController();
    t.after(() => stop.abort());
    const tailed = Promise.withResolvers<bigint>();
    const following = Promise.withResolvers<void>();
    (async () => {
      let skipped = 0n;
      const filter = { apiKeyId };
      for await (const message of server.asStaff.logs.tailRequestLogs({ filter }, { signal: stop.signal })) {
        following.resolve();
        skipped += message.skipped;
        if (skipped >= 300n) tailed.resolve(skipped);
      }
    })().catch(() => {});
    await following.promise;

    for (let n = 0; n < 10; n++) {
      await Promise.all(Array.from({ length: 30 }, () => users.getUser({ userId })));
    }
    const counted = async () => {
      const [row] = await server.sql`
        SELECT request_count::int AS count FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
      return row?.count as number;
    };
    if (usageDurability === "strict") assert.equal(await counted(), 300);
    await until(counted, (count) => count === 300);
    // Nothing of them is in the log yet: it is a burst, of which nobody has looked at the log.
    const [packed] = await server.sql`SELECT sum(rows)::int AS rows FROM request_log_packs`;
    assert.ok(packed?.rows >= 300, `${packed?.rows} rows are packed`);

    const filter = { apiKeyId };
    const first = await server.asStaff.logs.listRequestLogs({ filter, pageSize: 1000 });
    assert.equal(first.incomplete, true);
    const { requestLogs } = await until(
      () => server.asStaff.logs.listRequestLogs({ filter, pageSize: 1000 }),
      (answer) => answer.requestLogs.length >= 300,
    );
    assert.equal(requestLogs.length, 300);
    assert.equal(new Set(requestLogs.map(({ id }) => id)).size, 300);
    const id = requestLogs[0]?.id ?? "";
    assert.equal((await server.asStaff.logs.getRequestLog({ id })).requestLog?.id, id);
    assert.equal((await server.asStaff.keys.getApiKey({ id: apiKeyId })).apiKey?.requestCount, 300n);
    // Who tails it was told how many were passed over: others too, as nobody looked at them.
    assert.ok((await tailed.promise) >= 300n);
  });
}
