/** Rows as they are committed. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { useTransport } from "@connectrpc/connect-query";
import { useEffect, useRef, useState } from "react";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { useSession } from "../../session/state.ts";
import { filterOf, type LogsSearch } from "./search.ts";

/** Rows that are kept; older ones are in the listing. */
const mostRows = 500;
const retryMs = 2_000;

export interface Tail {
  /** The newest first; undefined until the stream stands. */
  readonly rows: readonly RequestLog[] | undefined;
  /** Rows that wait while it is paused. */
  readonly waiting: number;
  /** Rows that the server left out, because there were too many. */
  readonly skipped: bigint;
  /** Why there is no stream now. It is tried again by itself, unless the request itself was refused. */
  readonly error: unknown;
}

const none: Tail = { rows: undefined, waiting: 0, skipped: 0n, error: undefined };

export function useTail(search: LogsSearch, isPaused: boolean): Tail {
  const session = useSession();
  const isOn = search.live === "1" && session.kind === "signedIn";
  const { row: _row, page: _page, range: _range, from: _from, to: _to, ...filters } = search;
  const filterKey = JSON.stringify(filters);
  const transport = useTransport();
  const [tail, setTail] = useState<Tail>(none);
  const paused = useRef(isPaused);
  const held = useRef<RequestLog[]>([]);
  paused.current = isPaused;

  useEffect(() => {
    if (isPaused) return;
    const rows = held.current;
    held.current = [];
    setTail((now) => (rows.length === 0 ? now : { ...withRows(now, rows), waiting: 0 }));
  }, [isPaused]);

  useEffect(() => {
    if (!isOn) return;
    const abort = new AbortController();
    const client = createClient(RequestLogService, transport);
    held.current = [];
    setTail(none);

    const take = (rows: RequestLog[], skipped: bigint) => {
      // The newest first, as in the listing.
      rows.reverse();
      if (paused.current) held.current = [...rows, ...held.current].slice(0, mostRows);
      setTail((now) => ({
        ...(paused.current ? { ...now, waiting: held.current.length } : withRows(now, rows)),
        skipped: now.skipped + skipped,
        error: undefined,
      }));
    };

    const follow = async () => {
      while (!abort.signal.aborted) {
        try {
          const filter = filterOf(JSON.parse(filterKey) as LogsSearch);
          for await (const { requestLogs, skipped } of client.tailRequestLogs({ filter }, abort)) {
            take(requestLogs, skipped);
          }
        } catch (error) {
          if (abort.signal.aborted) return;
          const { code } = ConnectError.from(error);
          // It begins anew once one has signed in again.
          if (code === Code.Unauthenticated) return;
          setTail((now) => ({ ...now, rows: now.rows ?? [], error }));
          if (code === Code.InvalidArgument || code === Code.PermissionDenied) return;
        }
        await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    };
    void follow();
    return () => abort.abort();
  }, [isOn, filterKey, transport]);

  return tail;
}

function withRows(tail: Tail, rows: readonly RequestLog[]): Tail {
  return { ...tail, rows: [...rows, ...(tail.rows ?? [])].slice(0, mostRows) };
}
