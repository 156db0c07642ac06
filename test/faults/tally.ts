/** What was answered, held against what was counted and logged. */
import assert from "node:assert/strict";
import type { Fleet, FleetKey } from "./fleet.ts";
import type { CallResult } from "./load.ts";

export interface Row {
  readonly requestId: string;
  readonly code: number;
  readonly instanceId: string;
  /** When it was committed; milliseconds since the epoch. */
  readonly committedAt: number;
}

/** The rows of the request log of these keys. */
export async function rowsOf({ sql }: Fleet, keys: readonly FleetKey[]): Promise<Row[]> {
  const rows = await sql`
    SELECT request_id, code, instance_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 AS ms
    FROM request_logs WHERE api_key_id = ANY (${keys.map(({ apiKeyId }) => apiKeyId)}::uuid[])`;
  return rows.map(({ request_id, code, instance_id, ms }) => ({
    requestId: request_id,
    code,
    instanceId: instance_id,
    committedAt: ms,
  }));
}

/** Asserts that counter, log rows and rollups of each key tell the same number, in one look. Returns their sum. */
export async function assertCountsAgree({ sql }: Fleet, keys: readonly FleetKey[]): Promise<number> {
  let sum = 0;
  for (const { apiKeyId } of keys) {
    const [found] = await sql`
      SELECT request_count::int AS counted,
        (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId}) AS rows,
        (SELECT coalesce(sum(requests), 0)::int FROM key_rollups WHERE api_key_id = ${apiKeyId} AND period_s = 60) AS rollups
      FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
    const counted = found?.counted as number;
    assert.deepEqual({ ...found }, { counted, rows: counted, rollups: counted });
    sum += counted;
  }
  return sum;
}

/** Asserts that no call has two rows, and that there is none of a call that nobody made. */
export function assertEachOnce(rows: readonly Row[], results: readonly CallResult[]): void {
  const made = new Set(results.map(({ requestId }) => requestId));
  const logged = new Set(rows.map(({ requestId }) => requestId));
  assert.equal(logged.size, rows.length, "a call was logged twice");
  assert.deepEqual(
    [...logged].filter((id) => !made.has(id)),
    [],
  );
}
