/** `latchkey logs --follow`: the log as it grows. */
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type RequestLog,
  type RequestLogFilterSchema,
  RequestLogService,
} from "../gen/latchkey/v1/request_log_service_pb.js";
import type { Cli } from "./command.ts";
import { describeCallFailure } from "./failure.ts";
import type { Remote } from "./remote.ts";

export type LogFilter = MessageInitShape<typeof RequestLogFilterSchema>;

/** Between tries to reach a server that went away: doubled from the one to the other. */
const retryMs = { least: 250, most: 10_000 };
/** Rows that are known again when they come twice. */
const remembered = 100_000;
/** A row's time is when its call began: so much earlier than the newest one may be what a lost connection missed. */
const overlapMs = 60_000;

const mayPass = new Set([
  Code.Unavailable,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Canceled,
  Code.Internal,
  Code.Unknown,
]);

/**
 * Prints rows as they are committed, until a signal ends the process; first, in their order, those
 * since a time. Where the connection is lost it is made again, and the rows in between come from
 * the listing: each row is printed once.
 */
export async function followLogs(
  { terminal }: Cli,
  remote: Remote,
  { startTime: _, ...filter }: LogFilter & { startTime?: unknown },
  since: Timestamp | undefined,
  print: (rows: readonly RequestLog[]) => Promise<void>,
): Promise<never> {
  const logs = remote.client(RequestLogService);
  const seen = new Set<string>();
  let firstMs = since === undefined ? undefined : timestampMs(since);
  let newestMs = firstMs ?? 0;
  let waitMs = retryMs.least;

  async function printNew(rows: readonly RequestLog[]): Promise<void> {
    const fresh = rows.filter(({ id }) => !seen.has(id));
    for (const { id, time } of fresh) {
      seen.add(id);
      if (time !== undefined) newestMs = Math.max(newestMs, timestampMs(time));
    }
    for (const id of seen) {
      if (seen.size <= remembered) break;
      seen.delete(id);
    }
    if (fresh.length > 0) await print(fresh);
  }

  /** What was before the tail: it misses nothing from its first message on. */
  async function catchUp(): Promise<void> {
    if (firstMs === undefined) {
      // By the server's clock: what is as old as its newest row is not asked for, now or later.
      const { requestLogs } = await logs.listRequestLogs({ filter, pageSize: 1 });
      const newest = requestLogs[0]?.time;
      if (newest !== undefined) newestMs = timestampMs(newest) + 1;
      firstMs = newestMs;
      return;
    }
    const startTime = timestampFromMs(Math.max(firstMs, newestMs - overlapMs));
    const rows: RequestLog[] = [];
    let pageToken = "";
    do {
      const page = await logs.listRequestLogs({
        filter: { ...filter, startTime },
        pageSize: 1000,
        pageToken,
      });
      rows.push(...page.requestLogs);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    await printNew(rows.reverse());
  }

  for (let isFirst = true; ; ) {
    let isFollowing = false;
    try {
      // A tail has no time in which it must end.
      for await (const { requestLogs, skipped } of logs.tailRequestLogs({ filter }, { timeoutMs: 0 })) {
        if (!isFollowing) {
          if (!isFirst) terminal.note(`${remote.target.server} is reached again.`);
          await catchUp();
          [isFollowing, isFirst, waitMs] = [true, false, retryMs.least];
        }
        await printNew(requestLogs);
        if (skipped > 0n) {
          terminal.note(`${skipped} rows are left out: they came too fast. latchkey logs --since has them.`);
        }
      }
    } catch (error) {
      const failure = ConnectError.from(error);
      // A server that cannot be reached at first may be none.
      if (isFirst || !mayPass.has(failure.code)) throw describeCallFailure(failure, remote.target.server);
    }
    if (isFollowing || isFirst) {
      terminal.note(`The connection to ${remote.target.server} is lost: trying to reach it again.`);
    }
    await sleep(waitMs);
    waitMs = Math.min(retryMs.most, waitMs * 2);
  }
}
