/** Columns of calls that every list of them shows alike. */
import type { RequestLog } from "../../../gen/latchkey/v1/request_log_service_pb.js";
import { DenialReason } from "../../../gen/latchkey/v1/verdict_pb.js";
import { CodeBadge, DenialBadge } from "./badge.tsx";
import type { Column } from "./data-table/column.ts";
import { formatDuration } from "./format.ts";
import { Time } from "./time.tsx";

/** How it ended: where the verdict refused it, why. */
export const codeColumn: Column<RequestLog> = {
  id: "code",
  header: "Code",
  cell: ({ code, denialReason }) =>
    denialReason === DenialReason.UNSPECIFIED ? (
      <CodeBadge code={code} />
    ) : (
      <DenialBadge reason={denialReason} />
    ),
};

export const errorColumn: Column<RequestLog> = {
  id: "error",
  header: "Error",
  inCards: true,
  cell: ({ errorMessage }) =>
    errorMessage !== "" && (
      <span className="clip dim" title={errorMessage}>
        {errorMessage}
      </span>
    ),
};

export const durationColumn: Column<RequestLog> = {
  id: "duration",
  header: "Duration",
  align: "end",
  cell: ({ duration }) => formatDuration(duration),
};

export const addressColumn: Column<RequestLog> = {
  id: "address",
  header: "Address",
  cell: ({ peerAddress }) => <code>{peerAddress}</code>,
};

/** How long ago. */
export const agoColumn: Column<RequestLog> = {
  id: "time",
  header: "Time",
  align: "end",
  cell: ({ time }) => <Time value={time} />,
};
