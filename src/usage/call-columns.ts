/**
 * The calls of a batch as columns. What most of them share is there once, as reading a value costs
 * Postgres more than looking one up: a call names its kind, its caller, its peer and the series of its
 * id by their numbers.
 */
import type { EndedCall } from "../auth/call.ts";
import type { IdSeries } from "../auth/call-id.ts";
import type { Subject } from "../auth/verdict.ts";
import { numbersLiteral } from "./byte-literals.ts";
import { arrayLiteral, type Column, type Named, quote, type Values, valueName, valuesOf } from "./columns.ts";
import type { GatheredCalls, RowTexts } from "./gathered-calls.ts";
import { noKey } from "./totals.ts";

/** Takes out of a text from a caller what must not be stored. */
export type Clean = (text: string) => string;

/** Those columns of rows that are unnested, each of which may have NULLs. */
export const rowColumns = {
  kind: { name: "kind", type: "int" },
  caller: { name: "caller", type: "int" },
  peer: { name: "peer", type: "int" },
  series: { name: "series", type: "int" },
  // Null: the call's id.
  requestId: { name: "request_id", type: "text" },
  errorMessage: { name: "error_message", type: "text" },
  // Hexadecimal digits, whoever named it.
  traceId: { name: "trace_id", type: "text" },
} as const;

/**
 * Of rows too, but looked up by their number, which is half the work where an array
 * has no NULLs. -1 stands for them.
 */
export const numberColumns = {
  /** Of its id, within the series. */
  counter: { name: "counter", type: "int" },
  /** Milliseconds from the base, which shortens them. */
  time: { name: "time_ms", type: "bigint" },
  durationUs: { name: "duration_us", type: "bigint" },
  requestBytes: { name: "request_bytes", type: "bigint" },
  responseBytes: { name: "response_bytes", type: "bigint" },
} as const;

/** Looked up by the number of the caller. */
export const callerColumns = {
  userId: { name: "user_id", type: "bigint", literal: ({ userId }: Subject) => userId },
  apiKeyId: { name: "api_key_id", type: "uuid", literal: ({ apiKeyId }: Subject) => apiKeyId ?? noKey },
} as const;

/** Read as an address by the rows that name it: one that Postgres refuses is not to cost others theirs. */
export const peerColumns = [
  { name: "address", type: "text", literal: (address: string) => quote(address) },
] as const;

/** What ids of a series begin and end with. */
export const seriesColumns = [
  { name: "head", type: "text", literal: ({ head }: IdSeries) => head },
  { name: "tail", type: "text", literal: ({ tail }: IdSeries) => tail },
] as const;

/** Of one call of each kind: of what has few values, or there would be as many kinds as calls. */
export const kindColumns = (clean: Clean): Column<EndedCall>[] => [
  { name: "service", type: "text", literal: ({ method }) => quote(method.service) },
  { name: "method", type: "text", literal: ({ method }) => quote(method.name) },
  { name: "protocol", type: "text", literal: ({ protocol }) => quote(protocol) },
  { name: "code", type: "smallint", literal: ({ code }) => code },
  { name: "denial_reason", type: "text", literal: ({ verdict }) => verdict?.denial },
  { name: "credential_kind", type: "text", literal: ({ verdict }) => verdict?.credentialKind ?? "none" },
  { name: "user_agent", type: "text", literal: ({ userAgent }) => quote(clean(userAgent)) },
];

/** All of them, each with what its values are of. Their order is that of `request_log_packs`. */
export const callColumns: readonly (readonly [of: string, column: Named])[] = [
  ...[...Object.values(rowColumns), ...Object.values(numberColumns)].map(
    (column) => ["call", column] as const,
  ),
  ...kindColumns((text) => text).map((column) => ["kind", column] as const),
  ...Object.values(callerColumns).map((column) => ["caller", column] as const),
  ...peerColumns.map((column) => ["peer", column] as const),
  ...seriesColumns.map((column) => ["series", column] as const),
];

/** The placeholder of what the times of calls count from, in milliseconds since the epoch. */
export const baseMs = "call base_ms";

/** The values of placeholders: of all columns, and the base. */
export function callValues(calls: GatheredCalls, clean: Clean): Values {
  return {
    ...rowValues(calls, clean),
    ...valuesOf("kind", kindColumns(clean), calls.kinds),
    ...valuesOf("caller", Object.values(callerColumns), calls.callers),
    ...valuesOf("peer", peerColumns, calls.peers),
    ...valuesOf("series", seriesColumns, calls.series),
  };
}

function rowValues(calls: GatheredCalls, clean: Clean): Values {
  const { rows, numbers } = calls;
  const base = numbers.startedAtMs[0] ?? 0;
  const texts = (some: RowTexts) => textsLiteral(some, rows, (text) => quote(clean(text)));
  const literals: [Named, string][] = [
    [rowColumns.kind, numbersLiteral(numbers.kind, rows)],
    [rowColumns.caller, numbersLiteral(numbers.caller, rows)],
    [rowColumns.peer, numbersLiteral(numbers.peer, rows)],
    [rowColumns.series, numbersLiteral(numbers.series, rows)],
    [rowColumns.requestId, texts(calls.requestIds)],
    [rowColumns.errorMessage, texts(calls.errorMessages)],
    [rowColumns.traceId, texts(calls.traceIds)],
    [numberColumns.counter, numbersLiteral(numbers.counter, rows)],
    [numberColumns.time, numbersLiteral(numbers.startedAtMs, rows, base)],
    [numberColumns.durationUs, numbersLiteral(numbers.durationUs, rows)],
    [numberColumns.requestBytes, numbersLiteral(numbers.requestBytes, rows)],
    [numberColumns.responseBytes, numbersLiteral(numbers.responseBytes, rows)],
  ];
  return {
    [baseMs]: String(base),
    ...Object.fromEntries(literals.map(([column, literal]) => [valueName("call", column), literal])),
  };
}

function textsLiteral(texts: RowTexts, rows: number, literalOf: (text: string) => string): string {
  if (texts.size === 0) return "{}";
  const literals = Array<string | undefined>(rows).fill(undefined);
  for (const [row, text] of texts) literals[row] = literalOf(text);
  return arrayLiteral(literals);
}
