/** `latchkey.v1.RequestLogService`. */
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { requireUser } from "../auth/principal.ts";
import {
  ListRequestLogsRequestSchema,
  type RequestLogService,
} from "../gen/latchkey/v1/request_log_service_pb.js";
import { readPage } from "../rpc/page.ts";
import { createPlaces } from "../rpc/places.ts";
import { checkUuid, invalid } from "../rpc/validate.ts";
import { encoderOf, exportRows } from "./export.ts";
import { toMessage } from "./message.ts";
import { readCursor, readFilter } from "./read-filter.ts";
import type { RequestLogStore } from "./store.ts";
import type { LogTails } from "./tail.ts";

const pageSizes = { fallback: 100, most: 1000 };
/** An export whose reader is slow holds a page of rows, some 2 MB. */
const exportPlaces = { most: 50, mostOfOneUser: 10, what: "export the log" };
/** How many tail it altogether, the tails themselves bound. */
const tailPlaces = { most: Number.POSITIVE_INFINITY, mostOfOneUser: 20, what: "tail the log" };

export function createRequestLogService(options: {
  logs: RequestLogStore;
  tails: LogTails;
  /** Whether rows are not in the log yet. Asking for it brings them there. */
  isIncomplete: () => Promise<boolean>;
}): ServiceImpl<typeof RequestLogService> {
  const { logs, tails, isIncomplete } = options;
  const [exporting, tailing] = [createPlaces(exportPlaces), createPlaces(tailPlaces)];
  return {
    async listRequestLogs(request, context) {
      const principal = requireUser(context);
      const page = readPage(ListRequestLogsRequestSchema, request, pageSizes);
      const filter = readFilter(request.filter, principal);
      // Asked first: what is laid out meanwhile may not be listed.
      const incomplete = page.cursor === undefined && (await isIncomplete());
      const { rows, next } = await logs.list(filter, page.size, page.cursor && readCursor(page.cursor));
      return {
        incomplete,
        requestLogs: rows.map(toMessage),
        nextPageToken: next === undefined ? "" : page.tokenAfter(next.time, next.id),
      };
    },

    async getRequestLog(request, context) {
      const principal = requireUser(context);
      const row = await logs.get(checkRowId("id", request.id));
      if (row === undefined || !(principal.isStaff || row.userId === principal.userId)) {
        throw new ConnectError(
          (await isIncomplete())
            ? `request log row ${request.id} not found: rows are still to come, try again`
            : `request log row ${request.id} not found`,
          Code.NotFound,
        );
      }
      return { requestLog: toMessage(row) };
    },

    async *tailRequestLogs(request, context) {
      const principal = requireUser(context);
      const filter = readFilter(request.filter, principal);
      if (filter.from !== undefined || filter.until !== undefined) {
        throw invalid("start_time and end_time must be unset: what is tailed happens now");
      }
      const release = tailing.take(principal.userId, context.signal);
      try {
        for await (const { rows, skipped } of tails.open(filter, context.signal)) {
          yield { requestLogs: rows.map(toMessage), skipped: BigInt(skipped) };
        }
      } finally {
        release();
      }
    },

    async *exportRequestLogs(request, context) {
      const principal = requireUser(context);
      const filter = readFilter(request.filter, principal);
      const encoder = encoderOf(request.format);
      if (request.limit < 0n) throw invalid("limit must not be negative: 0 means all rows");
      const release = exporting.take(principal.userId, context.signal);
      try {
        // To have packs laid out: a file is read from the newest row on, and lacks what comes late.
        await isIncomplete();
        const file = exportRows(logs, filter, { encoder, limit: request.limit, signal: context.signal });
        for await (const data of file) yield { data };
      } finally {
        release();
      }
    },
  };
}

/** A row's id: a UUIDv7, which tells the time of the row. */
function checkRowId(field: string, value: string): string {
  const id = checkUuid(field, value);
  if (id[14] !== "7") throw invalid(`${field} must be the id of a row, which is a UUID of version 7`);
  return id;
}
