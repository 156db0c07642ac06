/**
 * The rows of calls in the request log. What most calls of a batch share is sent once,
 * as reading a value costs Postgres more than looking one up: a call names its kind and
 * its caller by their numbers.
 */
import { type SQL, sql } from "drizzle-orm";
import type { EndedCall } from "../auth/call.ts";
import type { Subject } from "../auth/verdict.ts";
import { requestLogs } from "../db/schema.ts";
import {
  array,
  arrayOf,
  type Column,
  instantOf,
  type Named,
  quote,
  unnest,
  type Values,
  valueName,
  valuesOf,
} from "./columns.ts";
import type { GatheredCalls, RowTexts } from "./gathered-calls.ts";
import { numbersLiteral } from "./number-literal.ts";
import { noKey } from "./totals.ts";

/** Takes out of a text from a caller what must not be stored. */
type Clean = (text: string) => string;

/** Those columns of rows that are unnested, each of which may have NULLs. */
const rowColumns = {
  id: { name: "id", type: "uuid" },
  kind: { name: "kind", type: "int" },
  caller: { name: "caller", type: "int" },
  // Null: the call's id, which is 37 bytes a row not written.
  requestId: { name: "request_id", type: "text" },
  peerAddress: { name: "peer_address", type: "inet" },
  errorMessage: { name: "error_message", type: "text" },
  // Hexadecimal digits, whoever named it.
  traceId: { name: "trace_id", type: "text" },
} as const;

/**
 * Of rows too, but looked up by their number, which is half the work where an array
 * has no NULLs. -1 stands for them.
 */
const numberColumns = {
  /** Milliseconds from the base, which shortens them. */
  time: { name: "time_ms", type: "bigint" },
  durationUs: { name: "duration_us", type: "bigint" },
  requestBytes: { name: "request_bytes", type: "bigint" },
  responseBytes: { name: "response_bytes", type: "bigint" },
} as const;

/** Looked up by the number of the caller. */
const callers = {
  userId: { name: "user_id", type: "bigint", literal: ({ userId }: Subject) => userId },
  apiKeyId: { name: "api_key_id", type: "uuid", literal: ({ apiKeyId }: Subject) => apiKeyId ?? noKey },
} as const;

/** Of one call of each kind: of what has few values, or there would be as many kinds as calls. */
const kindColumns = (clean: Clean): Column<EndedCall>[] => [
  { name: "service", type: "text", literal: ({ method }) => quote(method.service) },
  { name: "method", type: "text", literal: ({ method }) => quote(method.name) },
  { name: "protocol", type: "text", literal: ({ protocol }) => quote(protocol) },
  { name: "code", type: "smallint", literal: ({ code }) => code },
  { name: "denial_reason", type: "text", literal: ({ verdict }) => verdict?.denial },
  { name: "credential_kind", type: "text", literal: ({ verdict }) => verdict?.credentialKind ?? "none" },
  { name: "user_agent", type: "text", literal: ({ userAgent }) => quote(clean(userAgent)) },
];

/** The statement that inserts calls `WHERE` a condition holds, returning their keys; and its values. */
export interface CallRows {
  readonly insert: SQL;
  values(calls: GatheredCalls): Values;
}

export function createCallRows(options: { instanceId: string; clean: Clean; where: SQL }): CallRows {
  const { clean } = options;
  const ofKinds = kindColumns(clean);
  const numbered = (column: Named) => sql`(${array("call", column)})[call.n]`;
  const ofCaller = (column: Named) => sql`(${array("caller", column)})[call.caller]`;
  return {
    insert: sql`
      INSERT INTO ${requestLogs} (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
        credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
        instance_id, error_message, trace_id)
      SELECT ${instantOf(sql`(${sql.placeholder(baseMs)}::bigint + ${numbered(numberColumns.time)})`)},
        call.id, service, method, protocol, code, denial_reason,
        ${ofCaller(callers.userId)}, nullif(${ofCaller(callers.apiKeyId)}, ${noKey}), credential_kind,
        ${numbered(numberColumns.durationUs)}, nullif(${numbered(numberColumns.requestBytes)}, -1),
        nullif(${numbered(numberColumns.responseBytes)}, -1), peer_address, user_agent,
        request_id, ${options.instanceId}::uuid, error_message, trace_id
      FROM ${unnest("call", Object.values(rowColumns), "n")}
      JOIN ${unnest("kind", ofKinds, "n")} ON kind.n = call.kind
      WHERE ${options.where}
      RETURNING time, id`,
    values(calls) {
      return {
        ...rowValues(calls, clean),
        ...valuesOf("kind", ofKinds, calls.kinds),
        ...valuesOf("caller", Object.values(callers), calls.callers),
      };
    },
  };
}

/** The placeholder of what the times of calls count from. */
const baseMs = "call base_ms";

function rowValues(calls: GatheredCalls, clean: Clean): Values {
  const { rows, numbers } = calls;
  const base = numbers.startedAtMs[0] ?? 0;
  const texts = (some: RowTexts) => textsLiteral(some, rows, (text) => quote(clean(text)));
  const literals: [Named, string][] = [
    [rowColumns.id, numbers.idsLiteral(rows)],
    [rowColumns.kind, numbersLiteral(numbers.kind, rows)],
    [rowColumns.caller, numbersLiteral(numbers.caller, rows)],
    [rowColumns.requestId, texts(calls.requestIds)],
    [rowColumns.peerAddress, peersLiteral(calls)],
    [rowColumns.errorMessage, texts(calls.errorMessages)],
    [rowColumns.traceId, texts(calls.traceIds)],
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
  return arrayOf(literals);
}

function peersLiteral({ peers, rows, numbers }: GatheredCalls): string {
  const quoted = ["NULL", ...peers.map(quote)];
  const literals: string[] = [];
  for (let row = 0; row < rows; row++) literals.push(quoted[numbers.peer[row] as number] as string);
  return arrayOf(literals);
}
