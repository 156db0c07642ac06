/** Which rows of the request log: each condition in SQL and, for those who tail it, in memory. */
import { type SQL, sql } from "drizzle-orm";
import { type AddressRange, formatAddressRange, isInRanges } from "../auth/address-range.ts";
import type { Instant, RequestLogRow } from "./row.ts";

/** All that are set must hold. */
export interface RequestLogFilter {
  readonly userId?: bigint | undefined;
  readonly apiKeyId?: string | undefined;
  readonly service?: string | undefined;
  readonly method?: string | undefined;
  /** google.rpc.Code. */
  readonly code?: number | undefined;
  readonly denialReason?: string | undefined;
  /** Inclusive. */
  readonly from?: Instant | undefined;
  /** Exclusive. */
  readonly until?: Instant | undefined;
  readonly minDurationUs?: bigint | undefined;
  readonly maxDurationUs?: bigint | undefined;
  readonly protocol?: string | undefined;
  readonly peerAddress?: AddressRange | undefined;
  /** In the error message. The letters A to Z are the same in either case. */
  readonly errorText?: string | undefined;
  /** Only what ended with another code than ok. */
  readonly errorsOnly?: true | undefined;
  /** Only what no session of the console did. */
  readonly withoutSessions?: true | undefined;
  /** 32 hexadecimal digits, lower case. */
  readonly traceId?: string | undefined;
}

type Field = keyof RequestLogFilter;

interface Condition<T> {
  sql(value: T): SQL;
  matches(row: RequestLogRow, value: T): boolean;
}

/**
 * The two must agree on every row. That is why case is folded for A to Z alone:
 * what Postgres does to other letters differs by its locale.
 */
const conditions: { readonly [F in Field]-?: Condition<NonNullable<RequestLogFilter[F]>> } = {
  userId: {
    sql: (id) => sql`user_id = ${String(id)}::bigint`,
    matches: (row, id) => row.userId === id,
  },
  apiKeyId: {
    sql: (id) => sql`api_key_id = ${id}::uuid`,
    matches: (row, id) => row.apiKeyId === id,
  },
  service: {
    sql: (name) => sql`service = ${name}`,
    matches: (row, name) => row.service === name,
  },
  method: {
    sql: (name) => sql`method = ${name}`,
    matches: (row, name) => row.method === name,
  },
  code: {
    sql: (code) => sql`code = ${code}::smallint`,
    matches: (row, code) => row.code === code,
  },
  denialReason: {
    sql: (reason) => sql`denial_reason = ${reason}`,
    matches: (row, reason) => row.denialReason === reason,
  },
  from: {
    sql: (from) => sql`time >= ${from}::timestamptz`,
    matches: (row, from) => row.time >= from,
  },
  until: {
    sql: (until) => sql`time < ${until}::timestamptz`,
    matches: (row, until) => row.time < until,
  },
  minDurationUs: {
    sql: (us) => sql`duration_us >= ${String(us)}::bigint`,
    matches: (row, us) => row.durationUs >= us,
  },
  maxDurationUs: {
    sql: (us) => sql`duration_us <= ${String(us)}::bigint`,
    matches: (row, us) => row.durationUs <= us,
  },
  protocol: {
    sql: (protocol) => sql`protocol = ${protocol}`,
    matches: (row, protocol) => row.protocol === protocol,
  },
  peerAddress: {
    sql: (range) => sql`peer_address <<= ${formatAddressRange(range)}::inet`,
    matches: (row, range) => row.peerAddress !== null && isInRanges([range], row.peerAddress),
  },
  errorText: {
    sql: (text) => sql`strpos(lower(error_message COLLATE "C"), ${foldCase(text)}) > 0`,
    matches: (row, text) => row.errorMessage !== null && foldCase(row.errorMessage).includes(foldCase(text)),
  },
  errorsOnly: {
    sql: () => sql`code <> 0`,
    matches: (row) => row.code !== 0,
  },
  withoutSessions: {
    sql: () => sql`credential_kind <> 'session'`,
    matches: (row) => row.credentialKind !== "session",
  },
  traceId: {
    sql: (id) => sql`trace_id = ${id}`,
    matches: (row, id) => row.traceId === id,
  },
};

const fields = Object.keys(conditions) as Field[];

/** Whether a row is one of those that the filter asks for. */
export function matches(row: RequestLogRow, filter: RequestLogFilter): boolean {
  return fields.every((field) => {
    const value = filter[field];
    return value === undefined || (conditions[field] as Condition<typeof value>).matches(row, value);
  });
}

/** The filter as a condition in SQL, but for the fields that are seen to otherwise; undefined: nothing is left. */
export function conditionOf(filter: RequestLogFilter, except: readonly Field[] = []): SQL | undefined {
  const parts = fields.flatMap((field) => {
    const value = filter[field];
    if (value === undefined || except.includes(field)) return [];
    return [(conditions[field] as Condition<typeof value>).sql(value)];
  });
  return parts.length === 0 ? undefined : sql`(${sql.join(parts, sql` AND `)})`;
}

function foldCase(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
