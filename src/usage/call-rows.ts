/** The rows of calls in the request log, out of columns. */
import { type SQL, sql } from "drizzle-orm";
import { requestLogs } from "../db/schema.ts";
import {
  callerColumns,
  kindColumns,
  numberColumns,
  peerColumns,
  rowColumns,
  seriesColumns,
} from "./call-columns.ts";
import { type ArrayOf, instantOf, type Named, unnest } from "./columns.ts";
import { noKey } from "./totals.ts";

export interface InsertCalls {
  readonly arrayOf: ArrayOf;
  /** What the times of the calls count from, a bigint of milliseconds. */
  readonly baseMs: SQL;
  /** A uuid. */
  readonly instanceId: SQL;
  /** Where the arrays are from, unless they are values of the statement: a list of tables. */
  readonly from?: SQL;
  readonly where?: SQL;
}

/** The statement that inserts calls, returning their keys. */
export function insertCalls({ arrayOf, baseMs, instanceId, from, where = sql`true` }: InsertCalls): SQL {
  const numbered = (column: Named) => sql`(${arrayOf("call", column)})[call.n]`;
  const ofCaller = (column: Named) => sql`(${arrayOf("caller", column)})[call.caller]`;
  const kinds = kindColumns((text) => text);
  return sql`
    INSERT INTO ${requestLogs} (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
      instance_id, error_message, trace_id)
    SELECT ${instantOf(sql`(${baseMs} + ${numbered(numberColumns.time)})`)},
      (series.head || to_hex(${numbered(numberColumns.counter)}) || series.tail)::uuid,
      service, method, protocol, code, denial_reason,
      ${ofCaller(callerColumns.userId)}, nullif(${ofCaller(callerColumns.apiKeyId)}, ${noKey}), credential_kind,
      ${numbered(numberColumns.durationUs)}, nullif(${numbered(numberColumns.requestBytes)}, -1),
      nullif(${numbered(numberColumns.responseBytes)}, -1), peer.address::inet, user_agent,
      request_id, ${instanceId}, error_message, trace_id
    FROM ${from === undefined ? sql`` : sql`${from},`} ${unnest("call", Object.values(rowColumns), "n", arrayOf)}
    JOIN ${unnest("kind", kinds, "n", arrayOf)} ON kind.n = call.kind
    JOIN ${unnest("series", seriesColumns, "n", arrayOf)} ON series.n = call.series
    LEFT JOIN ${unnest("peer", peerColumns, "n", arrayOf)} ON peer.n = call.peer
    WHERE ${where}
    RETURNING time, id`;
}
