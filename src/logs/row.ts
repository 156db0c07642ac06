/** A row of the request log, as it comes out of Postgres. */
import { type SQL, sql } from "drizzle-orm";

/**
 * A time in UTC, to the microsecond, as Postgres keeps it and `Date` cannot:
 * "2026-01-02T03:04:05.000006Z". As texts they sort as the times do, from year 1 to
 * 9999.
 */
export type Instant = string;

export interface RequestLogRow {
  /** When the RPC began. */
  readonly time: Instant;
  readonly id: string;
  readonly service: string;
  readonly method: string;
  readonly protocol: string;
  /** google.rpc.Code. */
  readonly code: number;
  readonly denialReason: string | null;
  readonly userId: bigint | null;
  readonly apiKeyId: string | null;
  readonly credentialKind: string;
  readonly durationUs: bigint;
  readonly requestBytes: bigint | null;
  readonly responseBytes: bigint | null;
  readonly peerAddress: string | null;
  readonly userAgent: string;
  readonly requestId: string;
  readonly instanceId: string;
  readonly errorMessage: string | null;
  readonly traceId: string | null;
}

/** What to select for {@link toRow}. `time` goes out under another name, so that ORDER BY still means the column. */
export const rowColumns: SQL = sql`
  to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS instant, id, service, method, protocol,
  code, denial_reason, user_id, api_key_id, credential_kind, duration_us, request_bytes, response_bytes,
  peer_address, user_agent, request_id, instance_id, error_message, trace_id`;

/** A row as the driver gives it: bigint as text. */
export type SelectedRow = {
  instant: string;
  id: string;
  service: string;
  method: string;
  protocol: string;
  code: number;
  denial_reason: string | null;
  user_id: string | null;
  api_key_id: string | null;
  credential_kind: string;
  duration_us: string;
  request_bytes: string | null;
  response_bytes: string | null;
  peer_address: string | null;
  user_agent: string;
  request_id: string | null;
  instance_id: string;
  error_message: string | null;
  trace_id: string | null;
};

export function toRow(selected: SelectedRow): RequestLogRow {
  return {
    time: selected.instant,
    id: selected.id,
    service: selected.service,
    method: selected.method,
    protocol: selected.protocol,
    code: selected.code,
    denialReason: selected.denial_reason,
    userId: toBigInt(selected.user_id),
    apiKeyId: selected.api_key_id,
    credentialKind: selected.credential_kind,
    durationUs: BigInt(selected.duration_us),
    requestBytes: toBigInt(selected.request_bytes),
    responseBytes: toBigInt(selected.response_bytes),
    peerAddress: selected.peer_address,
    userAgent: selected.user_agent,
    requestId: selected.request_id ?? selected.id,
    instanceId: selected.instance_id,
    errorMessage: selected.error_message,
    traceId: selected.trace_id,
  };
}

function toBigInt(text: string | null): bigint | null {
  return text === null ? null : BigInt(text);
}
