/** `latchkey.v1.AuditLogService`. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { requireStaff } from "../auth/principal.ts";
import {
  type AuditEventSchema,
  type AuditLogService,
  ListAuditEventsRequestSchema,
} from "../gen/latchkey/v1/audit_log_service_pb.js";
import { readIdCursor, readPage } from "../rpc/page.ts";
import { checkTime, checkUserId, checkUuid, invalid } from "../rpc/validate.ts";
import { type AuditAction, type AuditEventRow, type AuditStore, auditActions } from "./audit-store.ts";

const pageSizes = { fallback: 50, most: 500 };

export function createAuditLogService(events: AuditStore): ServiceImpl<typeof AuditLogService> {
  return {
    async listAuditEvents(request, context) {
      // Beside the proto's declaration, which does not hold while authentication is switched off.
      requireStaff(context);
      const page = readPage(ListAuditEventsRequestSchema, request, pageSizes);
      const from = request.startTime && checkTime("start_time", request.startTime, "up");
      const until = request.endTime && checkTime("end_time", request.endTime, "up");
      if (from !== undefined && until !== undefined && until < from) {
        throw invalid("end_time must not be before start_time");
      }
      const user = (field: string, id: bigint) => (id === 0n ? undefined : checkUserId(field, id));
      const key = (field: string, id: string) => (id === "" ? undefined : checkUuid(field, id));
      const rows = await events.list(
        {
          actorUserId: user("actor_user_id", request.actorUserId),
          actorApiKeyId: key("actor_api_key_id", request.actorApiKeyId),
          targetUserId: user("target_user_id", request.targetUserId),
          targetApiKeyId: key("target_api_key_id", request.targetApiKeyId),
          action: request.action === "" ? undefined : readAction(request.action),
          from,
          until,
        },
        page.size + 1,
        readIdCursor(page),
      );
      const shown = rows.slice(0, page.size);
      const last = shown.at(-1);
      return {
        auditEvents: shown.map(toMessage),
        nextPageToken: rows.length > page.size && last !== undefined ? page.tokenAfter(String(last.id)) : "",
      };
    },
  };
}

function readAction(name: string): AuditAction {
  const action = auditActions.find((known) => known === name);
  if (action === undefined) {
    throw invalid(
      `action ${JSON.stringify(name.slice(0, 50))} is unknown: one of ${auditActions.join(", ")}`,
    );
  }
  return action;
}

function toMessage(row: AuditEventRow): MessageInitShape<typeof AuditEventSchema> {
  return {
    id: row.id,
    time: timestampFromDate(row.time),
    action: row.action,
    actorUserId: row.actorUserId ?? 0n,
    actorApiKeyId: row.actorApiKeyId ?? "",
    targetUserId: row.targetUserId ?? 0n,
    targetApiKeyId: row.targetApiKeyId ?? "",
    ...(row.before !== null && { before: row.before as JsonObject }),
    ...(row.after !== null && { after: row.after as JsonObject }),
    peerAddress: row.peerAddress ?? "",
    requestId: row.requestId ?? "",
  };
}
