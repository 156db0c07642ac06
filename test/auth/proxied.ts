/** Keys for tests of proxies, and what the request log says of the calls that a proxy asked about. */

import { until } from "../harness/until.ts";
import type { KeyWorld, MadeKey } from "../keys/world.ts";

export interface ProxiedKeys {
  /** The proxy's own. */
  readonly gateway: MadeKey;
  /** May call everything, from anywhere. */
  readonly ada: MadeKey;
  /** May pay and read invoices, from `203.0.113.0/24` and from here. */
  readonly payer: MadeKey;
}

/** Makes them for three users: `user-1` to `user-3`. */
export async function proxiedKeys(world: KeyWorld): Promise<ProxiedKeys> {
  return {
    gateway: await world.newKey({
      canVerify: true,
      allowedMethods: ["envoy.service.auth.v3.Authorization/Check", "latchkey.v1.ApiKeyService/VerifyApiKey"],
    }),
    ada: await world.newKey(),
    payer: await world.newKey({
      allowedMethods: ["billing.v1.InvoiceService/Pay", "invoices/GET"],
      allowedAddresses: ["203.0.113.0/24", "127.0.0.0/8"],
    }),
  };
}

export interface ProxiedRow {
  readonly service: string;
  readonly method: string;
  readonly code: number;
  readonly denial_reason: string | null;
  readonly api_key_id: string | null;
  readonly peer_address: string | null;
  readonly user_agent: string;
}

/** The rows with a request id and a protocol, as their calls began, once there are so many. */
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
        FROM request_logs WHERE protocol = ${protocol} AND request_id = ${requestId} ORDER BY time, id`,
    (rows) => rows.length >= count,
  );
}
