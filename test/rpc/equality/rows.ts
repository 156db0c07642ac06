/** The rows that two servers on one database left in the request log, by the request that they are of. */
import { Code } from "@connectrpc/connect";
import { openSql } from "../../harness/postgres.ts";

type Rows = Map<string, unknown[]>;

export interface Sent {
  readonly what: string;
  /** Its body came in several pieces: how many of them have come when it is refused, is chance. */
  readonly inPieces: boolean;
  /** Its client went before it was answered. */
  readonly isLeft: boolean;
}

/** `sent` tells what was sent with which user agent; each side has called once with its own name for that. */
export async function readRows(
  databaseUrl: string,
  sent: ReadonlyMap<string, Sent>,
): Promise<{ lean: Rows; stock: Rows }> {
  const sql = openSql(databaseUrl);
  try {
    const rows = await sql`
      SELECT side.user_agent AS side, log.service, log.method, log.protocol, log.code, log.denial_reason, log.user_id,
        log.api_key_id, log.credential_kind, log.request_bytes, log.response_bytes, log.peer_address, log.user_agent,
        log.request_id, log.error_message, log.trace_id
      FROM request_logs log JOIN request_logs side USING (instance_id)
      WHERE side.user_agent IN ('lean', 'stock') AND log.user_agent LIKE 'equality/%'
      ORDER BY log.time, log.id`;
    const bySide: { lean: Rows; stock: Rows } = { lean: new Map(), stock: new Map() };
    for (const { side, ...row } of rows) {
      const own = bySide[side as "lean" | "stock"];
      const request = sent.get(row.user_agent);
      const what = `${row.user_agent}: ${request?.what}`;
      const bytes = request?.inPieces && row.code !== 0 ? "(some)" : row.request_bytes;
      // Connect's handlers make an answer for a client that is gone, the lean path does not.
      const isLeft = request?.isLeft || row.code === Code.Canceled;
      const responseBytes = isLeft ? "(not taken)" : row.response_bytes;
      own.set(what, [
        ...(own.get(what) ?? []),
        { ...row, request_bytes: bytes, response_bytes: responseBytes },
      ]);
    }
    // Those of one user agent ran at once.
    for (const own of Object.values(bySide)) {
      for (const all of own.values()) all.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
    }
    return bySide;
  } finally {
    await sql.end();
  }
}
