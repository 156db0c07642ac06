/** What is made to measure on is what the server would have written. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type postgres from "postgres";
import type { DenialReason } from "../../src/auth/verdict.ts";
import { connect, type Database, database } from "../../src/db/client.ts";
import type { SelectedRow } from "../../src/logs/row.ts";
import { GatheredCalls } from "../../src/usage/gathered-calls.ts";
import { dayMs } from "../../src/usage/range.ts";
import { keyRollupsOf, methodRollupsOf, type Rollup } from "../../src/usage/totals.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { callOf } from "../usage/batches.ts";
import { makeMinutes } from "./made-rollups.ts";
import { countUsage, makeKeys, makeRows } from "./made-rows.ts";

const startMs = Date.UTC(2031, 2, 29, 9, 10, 11);
const made = { rows: 6000, keys: 50, users: 10, days: 2, startMs, endMs: startMs + 2 * dayMs, isWhole: true };

let sql: postgres.Sql;
let client: postgres.Sql;
let db: Database;
before(async () => {
  const url = await createTestDatabase("made-up");
  sql = openSql(url);
  client = connect({ url }, { max: 1, purpose: "bench", statementTimeoutMs: 0 });
  db = database(client);
  await makeKeys(db, made);
  for (const from of [0, made.rows / 2]) await makeRows(db, made, from, from + made.rows / 2);
  await countUsage(db, made);
  const firstDay = startMs - (startMs % dayMs);
  for (let day = firstDay; day < made.endMs; day += dayMs) await makeMinutes(db, day, day + dayMs);
});
after(() => Promise.all([sql.end(), client.end()]));

test("the rows lie in their days, and every key and user in them is there", async () => {
  const [found] = await sql`
    SELECT count(*)::int AS rows, min(time) >= ${new Date(startMs)} AND max(time) < ${new Date(made.endMs)} AS inside,
      count(*) FILTER (WHERE api_key_id IS NOT NULL)::int AS by_key,
      bool_and(user_id IS NULL OR user_id IN (SELECT id FROM users)) AS users,
      bool_and(api_key_id IS NULL OR (api_key_id, user_id) IN (SELECT id, user_id FROM api_keys)) AS keys,
      bool_and((denial_reason IS NULL) = (user_id IS NOT NULL)) AS subjects,
      (SELECT sum(request_count)::int FROM api_key_usage) AS counted
    FROM request_logs`;
  const { by_key, counted, ...rest } = found ?? {};
  assert.deepEqual(rest, { rows: made.rows, inside: true, users: true, keys: true, subjects: true });
  assert.equal(counted, by_key);
});

test("the minutes are those that the writer counts of the rows", async () => {
  const calls = new GatheredCalls();
  const rows = await sql<(SelectedRow & { ms: number })[]>`
    SELECT *, floor(extract(epoch FROM time) * 1000)::float8 AS ms FROM request_logs`;
  for (const row of rows) {
    const { user_id: userId, api_key_id: apiKeyId } = row;
    const call = callOf("", {
      startedAtMs: row.ms,
      method: { service: row.service, name: row.method },
      code: row.code,
      durationUs: Number(row.duration_us),
      requestBytes: Number(row.request_bytes),
      responseBytes: Number(row.response_bytes),
      verdict: {
        denial: (row.denial_reason ?? undefined) as DenialReason | undefined,
        principal: undefined,
        subject: userId === null ? undefined : { userId: BigInt(userId), apiKeyId: apiKeyId ?? undefined },
        credentialKind: "api_key",
      },
    });
    calls.add(call);
  }
  for (const [table, counted] of [
    ["method_rollups", methodRollupsOf(calls.totals)],
    ["key_rollups", keyRollupsOf(calls.totals)],
  ] as const) {
    const found = await sql`SELECT * FROM ${sql(table)} WHERE period_s = 60`;
    assert.deepEqual(found.map(textOfRow).sort(), counted.map(textOf).sort(), table);
  }
});

function textOf(rollup: Rollup): string {
  const { bucketMs, service, method, code, denialReason, apiKeyId = "", userId = "", latency } = rollup;
  const { requests, durationUs, requestBytes, responseBytes } = rollup;
  const sums = [requests, durationUs, requestBytes, responseBytes, latency];
  return [bucketMs, service, method, code, denialReason, apiKeyId, userId, ...sums].join(" ");
}

function textOfRow(row: postgres.Row): string {
  const subject = [row.api_key_id ?? "", row.user_id ?? ""];
  const sums = [row.requests, row.duration_us, row.request_bytes, row.response_bytes, row.latency];
  return [
    row.bucket.getTime(),
    row.service,
    row.method,
    row.code,
    row.denial_reason,
    ...subject,
    ...sums,
  ].join(" ");
}
