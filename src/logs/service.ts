/** `latchkey.v1.RequestLogService`. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Code, ServiceImpl } from "@connectrpc/connect";
import { codeFromString, codeToString } from "@connectrpc/connect/protocol-connect";
import { requireUser } from "../auth/principal.ts";
import {
  ListRequestLogsRequestSchema,
  RequestLogFilterSchema,
  type RequestLogSchema,
  type RequestLogService,
} from "../gen/latchkey/v1/request_log_service_pb.js";
import { CredentialKind, DenialReason } from "../gen/latchkey/v1/verdict_pb.js";
import { readPage } from "../rpc/page.ts";
import { checkText, checkTime, checkUuid, invalid } from "../rpc/validate.ts";
import { visibleUser } from "../rpc/visible-user.ts";
import type { RequestLogCursor, RequestLogRow, RequestLogStore } from "./store.ts";

const pageSizes = { fallback: 100, most: 1000 };
const maxNameLength = 500;

export function createRequestLogService(
  logs: RequestLogStore,
): Partial<ServiceImpl<typeof RequestLogService>> {
  return {
    async listRequestLogs(request, context) {
      const principal = requireUser(context);
      const page = readPage(ListRequestLogsRequestSchema, request, pageSizes);
      const filter = request.filter ?? create(RequestLogFilterSchema);
      const from = filter.startTime && checkTime("start_time", filter.startTime, "up");
      const until = filter.endTime && checkTime("end_time", filter.endTime, "up");
      if (from !== undefined && until !== undefined && until < from) {
        throw invalid("end_time must not be before start_time");
      }
      const rows = await logs.list(
        {
          userId: visibleUser(filter.userId, principal),
          apiKeyId: filter.apiKeyId === "" ? undefined : checkUuid("api_key_id", filter.apiKeyId),
          service: checkText("service", filter.service, maxNameLength) || undefined,
          method: checkText("method", filter.method, maxNameLength) || undefined,
          code: filter.code === "" ? undefined : readCode(filter.code),
          denialReason: readDenialReason(filter.denialReason),
          from,
          until,
        },
        page.size + 1,
        page.cursor && readCursor(page.cursor),
      );
      const shown = rows.slice(0, page.size);
      const last = shown.at(-1);
      return {
        requestLogs: shown.map(toMessage),
        nextPageToken:
          rows.length > page.size && last !== undefined
            ? page.tokenAfter(last.time.toISOString(), last.id)
            : "",
      };
    },
  };
}

function readCursor([time = "", id = ""]: readonly string[]): RequestLogCursor {
  const at = new Date(time);
  // Only years of four digits: Postgres reads no other of what JavaScript writes.
  if (!/^\d{4}-/.test(time) || Number.isNaN(at.getTime()))
    throw invalid("page_token is damaged: start again without one");
  return { time: at, id: checkUuid("page_token", id) };
}

function readCode(name: string): number {
  if (name === "ok") return 0;
  const code: unknown = codeFromString(name);
  // Connect looks names up in a plain object, which has a "constructor" too.
  if (typeof code !== "number") {
    throw invalid(`code ${JSON.stringify(name.slice(0, 50))} is unknown: ok, or one like not_found`);
  }
  return code;
}

function readDenialReason(reason: DenialReason): string | undefined {
  if (reason === DenialReason.UNSPECIFIED) return undefined;
  const name = DenialReason[reason];
  if (name === undefined) throw invalid(`denial_reason ${reason} is none of DenialReason`);
  return name;
}

function toMessage(row: RequestLogRow): MessageInitShape<typeof RequestLogSchema> {
  return {
    id: row.id,
    time: timestampFromDate(row.time),
    service: row.service,
    method: row.method,
    protocol: row.protocol,
    code: row.code === 0 ? "ok" : codeToString(row.code as Code),
    denialReason: enumValue(DenialReason, row.denialReason),
    userId: row.userId ?? 0n,
    apiKeyId: row.apiKeyId ?? "",
    credentialKind: enumValue(CredentialKind, row.credentialKind),
    duration: microseconds(row.durationUs),
    requestBytes: row.requestBytes ?? 0n,
    responseBytes: row.responseBytes ?? 0n,
    peerAddress: row.peerAddress ?? "",
    userAgent: row.userAgent,
    requestId: row.requestId,
    instanceId: row.instanceId,
  };
}

function microseconds(us: bigint): { seconds: bigint; nanos: number } {
  return { seconds: us / 1_000_000n, nanos: Number(us % 1_000_000n) * 1000 };
}

/** The enum value of a stored name; 0 for none and for one of a newer version. */
function enumValue(values: Readonly<Record<string, string | number>>, name: string | null): number {
  const value = values[name?.toUpperCase() ?? ""];
  return typeof value === "number" ? value : 0;
}
