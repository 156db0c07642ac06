/** What the request log keeps in the URL, and the filter that it stands for. */
import { durationFromMs, type Timestamp, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { DenialReason } from "../../../../gen/latchkey/v1/verdict_pb.js";
import { moment } from "../../parts/moment.ts";
import { rangeMs, ranges } from "../../parts/range.ts";
import { denialWords } from "../../parts/words.ts";
import { flag, id, oneOf, searchOf, text } from "../../search.ts";

/** Denial reasons by their names in the URL, e.g. "METHOD_NOT_ALLOWED". */
export const reasonOptions: Record<string, string> = Object.fromEntries(
  Object.entries(DenialReason)
    .filter(([, reason]) => typeof reason === "number" && reason !== DenialReason.UNSPECIFIED)
    .map(([name, reason]) => [name, denialWords[reason as DenialReason]]),
);

const milliseconds = (value: string) => (/^\d{1,9}(\.\d{1,3})?$/.test(value) ? value : undefined);

export const logsSearch = searchOf({
  /** How far back; or from and to. */
  range: oneOf(ranges),
  from: moment,
  to: moment,
  service: text,
  method: text,
  code: text,
  errors: flag,
  reason: oneOf(Object.keys(reasonOptions)),
  key: text,
  user: id,
  /** Durations in milliseconds. */
  min: milliseconds,
  max: milliseconds,
  protocol: oneOf(["grpc", "grpc-web", "connect", "verify"]),
  address: text,
  text,
  /** The console's own calls too, which are left out otherwise. */
  console: flag,
  live: flag,
  /** The row that is open. */
  row: text,
  page: text,
});
export type LogsSearch = ReturnType<typeof logsSearch>;

export const protocolOptions = {
  grpc: "gRPC",
  "grpc-web": "gRPC-Web",
  connect: "Connect",
  verify: "VerifyApiKey",
} as const;

/** The fields that filter, whichever of them are set. */
export const filterNames = [
  "range",
  "from",
  "to",
  "service",
  "method",
  "code",
  "errors",
  "reason",
  "key",
  "user",
  "min",
  "max",
  "protocol",
  "address",
  "text",
  "console",
] as const satisfies readonly (keyof LogsSearch)[];

/** All filters but the time. */
export function filterOf(search: LogsSearch) {
  const { service = "", method = "", code = "", reason, key = "", user, min, max } = search;
  return {
    service,
    method,
    code,
    apiKeyId: key,
    userId: user === undefined ? 0n : BigInt(user),
    denialReason:
      reason === undefined ? DenialReason.UNSPECIFIED : DenialReason[reason as keyof typeof DenialReason],
    errorsOnly: search.errors === "1",
    protocol: search.protocol ?? "",
    peerAddress: search.address ?? "",
    errorText: search.text ?? "",
    withoutSessions: search.console === undefined,
    ...(min === undefined ? {} : { minDuration: durationFromMs(Number(min)) }),
    ...(max === undefined ? {} : { maxDuration: durationFromMs(Number(max)) }),
  };
}

interface Times {
  readonly startTime?: Timestamp;
  readonly endTime?: Timestamp;
}

/** The time that is filtered by; a range is the one that ends at `nowMs`. */
export function timesOf({ range, from, to }: LogsSearch, nowMs: number): Times {
  if (range !== undefined) return { startTime: timestampFromMs(nowMs - rangeMs[range]) };
  return {
    ...(from === undefined ? {} : { startTime: timestampFromDate(new Date(from)) }),
    ...(to === undefined ? {} : { endTime: timestampFromDate(new Date(to)) }),
  };
}
