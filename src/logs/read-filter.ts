/** The filter of a request, checked. Whatever is wrong with it is `invalid_argument`. */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { type AddressRange, parseAddressRange } from "../auth/address-range.ts";
import type { Principal } from "../auth/principal.ts";
import type { RequestLogFilter as FilterMessage } from "../gen/latchkey/v1/request_log_service_pb.js";
import { DenialReason } from "../gen/latchkey/v1/verdict_pb.js";
import { readCode } from "../rpc/code-name.ts";
import { checkText, checkTime, checkUuid, invalid } from "../rpc/validate.ts";
import { visibleUser } from "../rpc/visible-user.ts";
import type { RequestLogFilter } from "./filter.ts";
import type { RequestLogCursor } from "./list-query.ts";
import type { Instant } from "./row.ts";

const maxNameLength = 500;
const maxErrorTextLength = 200;
const protocols = ["grpc", "grpc-web", "connect", "verify", "ext_authz", "forward_auth"];
/** The longest google.protobuf.Duration, in seconds. */
const maxDurationS = 315_576_000_000n;

/**
 * Reads a filter for a caller: one who is not staff sees its own user's rows,
 * whatever it asks for. Throws `invalid_argument`, and `permission_denied` for
 * another user's rows.
 */
export function readFilter(filter: FilterMessage | undefined, principal: Principal): RequestLogFilter {
  const userId = visibleUser(filter?.userId ?? 0n, principal);
  if (filter === undefined) return { userId };
  const { startTime, endTime, minDuration, maxDuration } = filter;
  const from = startTime && readTime("start_time", startTime);
  const until = endTime && readTime("end_time", endTime);
  if (from !== undefined && until !== undefined && until < from) {
    throw invalid("end_time must not be before start_time");
  }
  const minNs = minDuration && readDuration("min_duration", minDuration);
  const maxNs = maxDuration && readDuration("max_duration", maxDuration);
  if (minNs !== undefined && maxNs !== undefined && maxNs < minNs) {
    throw invalid("max_duration must not be less than min_duration");
  }
  return {
    userId,
    apiKeyId: filter.apiKeyId === "" ? undefined : checkUuid("api_key_id", filter.apiKeyId),
    service: checkText("service", filter.service, maxNameLength) || undefined,
    method: checkText("method", filter.method, maxNameLength) || undefined,
    code: filter.code === "" ? undefined : readCode(filter.code),
    denialReason: readDenialReason(filter.denialReason),
    from,
    until,
    // Rows have whole microseconds.
    minDurationUs: minNs === undefined ? undefined : (minNs + 999n) / 1000n,
    maxDurationUs: maxNs === undefined ? undefined : maxNs / 1000n,
    protocol: readProtocol(filter.protocol),
    peerAddress: filter.peerAddress === "" ? undefined : readAddress(filter.peerAddress),
    errorText: checkText("error_text", filter.errorText, maxErrorTextLength) || undefined,
    errorsOnly: filter.errorsOnly || undefined,
    withoutSessions: filter.withoutSessions || undefined,
    traceId: filter.traceId === "" ? undefined : readTraceId(filter.traceId),
  };
}

/** The place in a listing that a page token holds. */
export function readCursor([time = "", id = ""]: readonly string[]): RequestLogCursor {
  const second = new Date(`${time.slice(0, 19)}Z`);
  const isTime =
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(time) &&
    time >= "0001" &&
    !Number.isNaN(second.getTime()) &&
    // JavaScript takes the 30th of February for the 2nd of March.
    second.toISOString().slice(0, 19) === time.slice(0, 19);
  if (!isTime) throw invalid("page_token is damaged: start again without one");
  return { time, id: checkUuid("page_token", id) };
}

/** A time that bounds a range of rows, whose times have whole microseconds: a part of one counts as the next. */
function readTime(field: string, value: Timestamp): Instant {
  checkTime(field, value);
  const us = Math.ceil(value.nanos / 1000);
  if (us === 1_000_000) {
    const next = Number(value.seconds) + 1;
    // The year 9999 has no next one.
    return next > 253_402_300_799 ? "9999-12-31T23:59:59.999999Z" : instant(next, 0);
  }
  return instant(Number(value.seconds), us);
}

function instant(seconds: number, us: number): Instant {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(us).padStart(6, "0")}Z`;
}

/** In nanoseconds. */
function readDuration(field: string, { seconds, nanos }: Duration): bigint {
  if (seconds < 0n || nanos < 0) throw invalid(`${field} must not be negative`);
  if (seconds > maxDurationS || nanos > 999_999_999) {
    throw invalid(`${field} must be a duration of at most 10,000 years`);
  }
  return seconds * 1_000_000_000n + BigInt(nanos);
}

function readDenialReason(reason: DenialReason): string | undefined {
  if (reason === DenialReason.UNSPECIFIED) return undefined;
  const name = DenialReason[reason];
  if (name === undefined) throw invalid(`denial_reason ${reason} is none of DenialReason`);
  return name;
}

function readProtocol(name: string): string | undefined {
  if (name === "" || protocols.includes(name)) return name || undefined;
  throw invalid(`protocol ${JSON.stringify(name.slice(0, 50))} is unknown: ${protocols.join(", ")}`);
}

function readAddress(text: string): AddressRange {
  const range = parseAddressRange(text);
  if (range === undefined) {
    throw invalid(
      `peer_address ${JSON.stringify(text.slice(0, 50))} must be an IP address like 192.0.2.1, or a CIDR block like 192.0.2.0/24`,
    );
  }
  return range;
}

function readTraceId(text: string): string {
  if (/^[0-9a-f]{32}$/i.test(text)) return text.toLowerCase();
  throw invalid("trace_id must be 32 hexadecimal digits, as in traceparent: 00-TRACE_ID-…");
}
