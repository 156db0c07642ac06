/** The rows that two servers on one database left in the request log, by the request that they are of. */
import { openSql } from "../../harness/postgres.ts";

type Rows = Map<string, unknown[]>;

/** `sent` tells what was sent with which user agent; each side has called once with its own name for that. */
export async function readRows(
  databaseUrl: string,
  sent: ReadonlyMap<string, string>,
): Promise<{ lean: Rows; stock: Rows }> {
  const sql = openSql(databaseUrl);
  try {
    const rows = await sql`
      SELECT side.user_agent AS side, log.service, log.method, log.protocol, log.code, log.denial_reason, log.user_id,
        log.api_key_id, log.credential_kind, log.request_bytes, log.response_bytes, log.peer_address, log.user_agent,
        CASE WHEN log.request_id = log.id::text THEN '(made)' ELSE log.request_id END AS request_id,
        log.error_message, log.trace_id
      FROM request_logs log JOIN request_logs side USING (instance_id)
      WHERE side.user_agent IN ('lean', 'stock') AND log.user_agent LIKE 'equality/%'
      ORDER BY log.time, log.id`;
    const bySide: { lean: Rows; stock: Rows } = { lean: new Map(), stock: new Map() };
    for (const { side, ...row } of rows) {
      const own = bySide[side as "lean" | "stock"];
      const what = `${row.user_agent}: ${sent.get(row.user_agent)}`;
      own.set(what, [...(own.get(what) ?? []), { ...row }]);
    }
    // In the order of the requests, so that a difference shows what is missing.
    const inOrder = (own: Rows) =>
      new Map([...own].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })));
    return { lean: inOrder(bySide.lean), stock: inOrder(bySide.stock) };
  } finally {
    await sql.end();
  }
}
