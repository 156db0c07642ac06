/** What the request log says of calls that a proxy asked about. */

import { until } from "../harness/until.ts";
import type { KeyWorld } from "../keys/world.ts";

export interface ProxiedRow {
  readonly service: string;
  readonly method: string;
  readonly code: number;
  readonly denial_reason: string | null;
  readonly api_key_id: string | null;
  readonly peer_address: string | null;
  readonly user_agent: string;
}

/** The rows with a request id and a protocol, once there are so many. */
export function rowsOf(
  { sql }: Pick<KeyWorld, "sql">,
  protocol: string,
  requestId: string,
  count = 1,
): Promise<ProxiedRow[]> {
  return until(
    () =>
      sql<ProxiedRow[]>`
        SELECT service, method, code, denial_reason, api_key_id, host(peer_address) AS peer_address, user_agent
        FROM request_logs WHERE protocol = ${protocol} AND request_id = ${requestId} ORDER BY time`,
    (rows) => rows.length >= count,
  );
}
