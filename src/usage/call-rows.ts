/**
 * The rows of calls in the request log. What most calls of a batch share is sent once,
 * as reading a value costs Postgres more than looking one up: a call names its kind and
 * its caller by their numbers.
 */
import { type SQL, sql } from "drizzle-orm";
import type { EndedCall } from "../auth/call.ts";
import type { Subject } from "../auth/verdict.ts";
import { requestLogs } from "../db/schema.ts";
import { array, type Column, instantOf, quote, unnest, type Values, valuesOf } from "./columns.ts";
import { Numbering } from "./numbering.ts";
import { noKey } from "./totals.ts";

/** Takes out of a text from a caller what must not be stored. */
type Clean = (text: string) => string;

/** A call with the numbers of what it shares with others. */
interface Row {
  readonly call: EndedCall;
  readonly kind: number;
  /** 0: it named nobody. */
  readonly caller: number;
}

const rowColumns = (clean: Clean): Column<Row>[] => [
  { name: "id", type: "uuid", literal: ({ call }) => call.id },
  { name: "kind", type: "int", literal: ({ kind }) => kind },
  { name: "caller", type: "int", literal: ({ caller }) => caller },
  {
    name: "request_id",
    type: "text",
    // Null: its own id, which is 37 bytes a row not written.
    literal: ({ call: { requestId, id } }) => (requestId === id ? undefined : quote(clean(requestId))),
  },
  {
    name: "peer_address",
    type: "inet",
    literal: ({ call: { peerAddress } }) => (peerAddress ? quote(peerAddress) : undefined),
  },
  {
    name: "error_message",
    type: "text",
    literal: ({ call: { errorMessage } }) =>
      errorMessage === undefined ? undefined : quote(clean(errorMessage)),
  },
  // Hexadecimal digits, whoever named it.
  { name: "trace_id", type: "text", literal: ({ call }) => call.traceId },
];

/**
 * Of rows too, but looked up by their number, which is half the work where an array
 * has no NULLs. -1 stands for them.
 */
const numbers = {
  timeMs: { name: "time_ms", type: "bigint", literal: ({ call }: Row) => call.startedAtMs },
  durationUs: { name: "duration_us", type: "bigint", literal: ({ call }: Row) => call.durationUs },
  requestBytes: {
    name: "request_bytes",
    type: "bigint",
    literal: ({ call }: Row) => call.requestBytes ?? -1,
  },
  responseBytes: {
    name: "response_bytes",
    type: "bigint",
    literal: ({ call }: Row) => call.responseBytes ?? -1,
  },
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

/** What the columns of a kind are made of. */
function traitsOf(call: EndedCall): unknown[] {
  const { method, protocol, code, verdict, userAgent } = call;
  return [method.name, method.service, protocol, code, verdict?.denial, verdict?.credentialKind, userAgent];
}

/** The statement that inserts calls `WHERE` a condition holds, returning their keys; and its values. */
export interface CallRows {
  readonly insert: SQL;
  values(calls: readonly EndedCall[]): Values;
}

export function createCallRows(options: { instanceId: string; clean: Clean; where: SQL }): CallRows {
  const ofRows = rowColumns(options.clean);
  const ofKinds = kindColumns(options.clean);
  const numbered = (column: Column<Row>) => sql`(${array("call", column)})[call.n]`;
  const ofCaller = (column: Column<Subject>) => sql`(${array("caller", column)})[call.caller]`;
  return {
    insert: sql`
      INSERT INTO ${requestLogs} (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
        credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
        instance_id, error_message, trace_id)
      SELECT ${instantOf(numbered(numbers.timeMs))}, call.id, service, method, protocol, code, denial_reason,
        ${ofCaller(callers.userId)}, nullif(${ofCaller(callers.apiKeyId)}, ${noKey}), credential_kind,
        ${numbered(numbers.durationUs)}, nullif(${numbered(numbers.requestBytes)}, -1),
        nullif(${numbered(numbers.responseBytes)}, -1), peer_address, user_agent,
        request_id, ${options.instanceId}::uuid, error_message, trace_id
      FROM ${unnest("call", ofRows, "n")}
      JOIN ${unnest("kind", ofKinds, "n")} ON kind.n = call.kind
      WHERE ${options.where}
      RETURNING time, id`,
    values(calls) {
      const kindsOf = new Numbering<EndedCall>();
      const callersOf = new Numbering<Subject>();
      const rows = calls.map((call): Row => {
        const subject = call.verdict?.subject;
        return {
          call,
          kind: kindsOf.numberOf(call, traitsOf(call)),
          caller: subject === undefined ? 0 : callersOf.numberOf(subject, [subject.apiKeyId, subject.userId]),
        };
      });
      return {
        ...valuesOf("call", [...ofRows, ...Object.values(numbers)], rows),
        ...valuesOf("kind", ofKinds, kindsOf.first),
        ...valuesOf("caller", Object.values(callers), callersOf.first),
      };
    },
  };
}
