/** The request log as a file, made page by page: however long it is, little of it is in memory. */
import { create, toJsonString } from "@bufbuild/protobuf";
import { stringify } from "csv-stringify/sync";
import { abortError } from "../auth/until-aborted.ts";
import { ExportFormat, RequestLogSchema } from "../gen/latchkey/v1/request_log_service_pb.js";
import { codeName } from "../rpc/code-name.ts";
import { invalid } from "../rpc/validate.ts";
import type { RequestLogFilter } from "./filter.ts";
import type { RequestLogCursor } from "./list-query.ts";
import { toMessage } from "./message.ts";
import type { RequestLogRow } from "./row.ts";
import type { RequestLogStore } from "./store.ts";

/** Makes the text of rows. */
interface Encoder {
  /** What comes before the first row. */
  readonly head: string;
  encode(row: RequestLogRow): string;
}

const pageSize = 1000;
const chunkBytes = 64 * 1024;

/** The fields of RequestLog, in its order. */
const columns: Readonly<Record<string, (row: RequestLogRow) => string | bigint | null>> = {
  id: (row) => row.id,
  time: (row) => row.time,
  service: (row) => row.service,
  method: (row) => row.method,
  protocol: (row) => row.protocol,
  code: (row) => codeName(row.code),
  denial_reason: (row) => row.denialReason,
  user_id: (row) => row.userId,
  api_key_id: (row) => row.apiKeyId,
  credential_kind: (row) => row.credentialKind.toUpperCase(),
  duration: (row) => seconds(row.durationUs),
  request_bytes: (row) => row.requestBytes ?? 0n,
  response_bytes: (row) => row.responseBytes ?? 0n,
  peer_address: (row) => row.peerAddress,
  user_agent: (row) => row.userAgent,
  request_id: (row) => row.requestId,
  instance_id: (row) => row.instanceId,
  error_message: (row) => row.errorMessage,
  trace_id: (row) => row.traceId,
};
const cells = Object.values(columns);

/** Lines end as RFC 4180 has it; half of such an end within a field is quoted as the whole is. */
const csvOptions = { record_delimiter: "windows", quoted_match: /[\r\n]/, escape_formulas: true } as const;
const csv: Encoder = {
  head: stringify([Object.keys(columns)], csvOptions),
  encode: (row) => stringify([cells.map((cell) => cell(row))], csvOptions),
};
const ndjson: Encoder = {
  head: "",
  encode: (row) => `${toJsonString(RequestLogSchema, create(RequestLogSchema, toMessage(row)))}\n`,
};

/** The encoder of a format. Throws `invalid_argument`. */
export function encoderOf(format: ExportFormat): Encoder {
  switch (format) {
    case ExportFormat.UNSPECIFIED:
    case ExportFormat.CSV:
      return csv;
    case ExportFormat.NDJSON:
      return ndjson;
    default:
      throw invalid(`format ${format} is unknown: EXPORT_FORMAT_CSV or EXPORT_FORMAT_NDJSON`);
  }
}

/**
 * Yields the file in pieces of some 64 kB: the rows of the listing, newest first,
 * at most `limit`. Reads on when the piece before was taken, until the signal aborts.
 */
export async function* exportRows(
  logs: RequestLogStore,
  filter: RequestLogFilter,
  options: { encoder: Encoder; limit: bigint; signal: AbortSignal },
): AsyncGenerator<Uint8Array, void, undefined> {
  const { encoder, signal } = options;
  let left = options.limit === 0n ? Number.POSITIVE_INFINITY : Number(options.limit);
  let text = encoder.head;
  let after: RequestLogCursor | undefined;
  do {
    if (signal.aborted) throw abortError(signal);
    const page = await logs.list(filter, Math.min(pageSize, left), after);
    for (const row of page.rows) {
      text += encoder.encode(row);
      if (text.length < chunkBytes) continue;
      yield Buffer.from(text);
      text = "";
    }
    left -= page.rows.length;
    after = page.next;
  } while (after !== undefined && left > 0);
  if (text !== "") yield Buffer.from(text);
}

/** E.g. "0.001250". */
function seconds(us: bigint): string {
  return `${us / 1_000_000n}.${String(us % 1_000_000n).padStart(6, "0")}`;
}
