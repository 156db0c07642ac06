import { createClient } from "@connectrpc/connect";
import { useTransport } from "@connectrpc/connect-query";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { filterOf, type LogsSearch, timesOf } from "./search.ts";

export const pageSize = 100;
/** Pages of the server that are read for one of the reader's, where few rows match. */
const mostReads = 20;

export interface Listing {
  readonly rows: readonly RequestLog[];
  /** Empty: there are no more. */
  readonly next: string;
  /** Calls have ended that are not in the log yet. */
  readonly incomplete: boolean;
}

/** In milliseconds: how soon a listing that lacks calls is asked for again. */
const incompleteMs = 2000;

/**
 * A page of the log. Where few rows match, a page of the server is short or empty
 * though more follow: it is gone on with until the page is full, for a while.
 */
export function useListing(search: LogsSearch) {
  const client = createClient(RequestLogService, useTransport());
  const { row: _row, live, page = "", ...filters } = search;
  return useQuery({
    queryKey: ["request-logs", filters, page],
    enabled: live === undefined,
    // After a live tail it must not lack what that has shown.
    staleTime: 0,
    placeholderData: keepPreviousData,
    queryFn: async ({ signal }): Promise<Listing> => {
      // The server's page tokens hold for one filter: on later pages a range ends where it did on the first.
      const [began, token] = page === "" ? [String(Date.now()), ""] : split(page);
      const filter = { ...filterOf(filters), ...timesOf(filters, Number(began)) };
      const rows: RequestLog[] = [];
      let next = token;
      let incomplete = false;
      for (let reads = 0; reads < mostReads; reads++) {
        const answer = await client.listRequestLogs(
          { filter, pageSize: pageSize - rows.length, pageToken: next },
          { signal },
        );
        rows.push(...answer.requestLogs);
        next = answer.nextPageToken;
        incomplete ||= answer.incomplete;
        if (next === "" || rows.length >= pageSize) break;
      }
      return { rows, next: next === "" ? "" : `${began}~${next}`, incomplete };
    },
    refetchInterval: ({ state }) => state.data?.incomplete === true && incompleteMs,
  });
}

/** Of a page in the URL: when the first page was asked for, and the server's token. */
function split(page: string): [beganMs: string, token: string] {
  const at = page.indexOf("~");
  return [page.slice(0, at), page.slice(at + 1)];
}
