/** A partition that is made while calls are written. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createUserAndKey, startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

test("a call that is written as its partition is being attached is counted and logged", async (t) => {
  const server = await startServer({ usageDurability: "strict" });
  t.after(() => server.close());
  const { sql } = server;
  const { apiKeyId, token, userId } = await createUserAndKey(server.asStaff, "attached");
  const [partition] = await sql`
    SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
    FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE i.inhparent = 'request_logs'::regclass AND c.relname = 'request_logs_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')`;
  assert.ok(partition, "there is a partition of today");
  await sql`ALTER TABLE request_logs DETACH PARTITION ${sql(partition.name)}`;
  let call: Promise<unknown> | undefined;
  await sql.begin(async (tx) => {
    await tx.unsafe(`ALTER TABLE request_logs ATTACH PARTITION ${partition.name} ${partition.bounds}`);
    call = server.as(token).users.getUser({ userId });
    call.catch(() => {});
    // It has chosen the default partition, which the attaching holds.
    await until(
      () => tx`SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'latchkey usage' AND wait_event_type = 'Lock'`,
      (waiting) => waiting.length > 0,
    );
  });
  await call;
  const [found] = await sql`SELECT request_count::int AS counted,
    (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId}) AS rows
    FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
  assert.deepEqual({ ...found }, { counted: 1, rows: 1 });
});
