/** What requests about keys ask for, checked. Each function throws `invalid_argument`. */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  ApiKey,
  CountApiKeysRequest,
  CreateApiKeyRequest,
  ListApiKeysRequest,
  UpdateApiKeyRequest,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { readMask } from "../rpc/field-mask.ts";
import { checkText, checkTime, checkUserId, checkUuid, invalid } from "../rpc/validate.ts";
import type { KeyFields } from "./changes.ts";
import type { ApiKeyFilter, ListOrder } from "./list.ts";
import { sortOrder, storedStatus, storedType } from "./message.ts";
import { checkAddresses, checkMethodPatterns } from "./restrictions.ts";
import type { NewApiKey } from "./store.ts";

const maxDays = 36_500;
const dayS = 86_400;
const graceDays = { fallback: 1, most: 90 };

/** The key that a request wants, but its token. An expiry in the past is let through: see `checkFuture`. */
export function readNewKey(request: CreateApiKeyRequest): Omit<NewApiKey, "hash" | "start"> {
  return {
    userId: checkUserId("user_id", request.userId),
    name: checkName(request.name),
    description: checkDescription(request.description),
    type: storedType(request.type) ?? "service",
    expiresAt: readExpiry(request.expiresAt),
    allowedMethods: checkMethodPatterns("allowed_methods", request.allowedMethods),
    allowedAddresses: checkAddresses("allowed_addresses", request.allowedAddresses),
    canVerify: request.canVerify,
  };
}

/** An expiry that is set anew must be in the future. */
export function checkFuture(expiresAt: Date | null | undefined, now: Date): void {
  if (expiresAt && expiresAt <= now) {
    throw invalid("expires_at must be in the future; leave it out for a key that never expires");
  }
}

/** What each path of an update mask changes. */
const readers: Readonly<Record<string, (key: ApiKey) => KeyFields>> = {
  name: (key) => ({ name: checkName(key.name) }),
  description: (key) => ({ description: checkDescription(key.description) }),
  type: (key) => ({ type: storedType(key.type) ?? "service" }),
  expires_at: (key) => ({ expiresAt: readExpiry(key.expiresAt) }),
  allowed_methods: (key) => ({ allowedMethods: checkMethodPatterns("allowed_methods", key.allowedMethods) }),
  allowed_addresses: (key) => ({
    allowedAddresses: checkAddresses("allowed_addresses", key.allowedAddresses),
  }),
  can_verify: (key) => ({ canVerify: key.canVerify }),
};

/** Which key a request changes, and to what. */
export function readUpdate(request: UpdateApiKeyRequest, now: Date): { id: string; fields: KeyFields } {
  const { apiKey } = request;
  const id = checkUuid("api_key.id", apiKey?.id ?? "");
  const fields: KeyFields = {};
  for (const path of readMask(request.updateMask, Object.keys(readers))) {
    if (apiKey !== undefined) Object.assign(fields, readers[path]?.(apiKey));
  }
  checkFuture(fields.expiresAt, now);
  return { id, fields };
}

/** The filter of a listing, but whose keys. */
export function readFilter(request: ListApiKeysRequest): ApiKeyFilter {
  const unusedForDays = readDays("unused_for_days", request.unusedForDays);
  const expiresWithinDays = readDays("expires_within_days", request.expiresWithinDays);
  if (unusedForDays !== undefined && expiresWithinDays !== undefined) {
    throw invalid("unused_for_days and expires_within_days have an order each: ask for one at a time");
  }
  const by = sortOrder(request.order);
  if (by !== undefined && (unusedForDays ?? expiresWithinDays) !== undefined) {
    throw invalid("unused_for_days and expires_within_days have an order each: leave order out");
  }
  if (by === undefined && request.descending) throw invalid("descending needs an order");
  return {
    ...readCounted(request),
    status: storedStatus(request.status),
    unusedForDays,
    expiresWithinDays,
    sort: by && { by, descending: request.descending },
  };
}

/** The filter of a count, but whose keys. */
export function readCounted(
  request: Pick<CountApiKeysRequest, "type" | "search">,
): Pick<ApiKeyFilter, "type" | "search"> {
  return {
    type: storedType(request.type),
    search: checkText("search", request.search, 200) || undefined,
  };
}

/** Where a page begins, as the order of its listing has it. */
export function readCursor(order: ListOrder, cursor: readonly string[]): readonly string[] {
  if (order === "created") return [checkUuid("page_token", cursor[0] ?? "")];
  const [position = "", id = ""] = cursor;
  if (!isPosition[order](position)) throw invalid("page_token is damaged: start again without one");
  return [position, checkUuid("page_token", id)];
}

const isTime = (text: string) =>
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text) && isCalendarTime(text);
const isTimeOrNone = (text: string) => text === "" || isTime(text);

/** Whether Postgres can read a position in an order. */
const isPosition: Readonly<Record<Exclude<ListOrder, "created">, (text: string) => boolean>> = {
  // Some letters are longer in lower case.
  name: (text) => text.length <= 1000 && !text.includes("\0"),
  requests: (text) => /^\d{1,18}$/.test(text),
  last_used: isTimeOrNone,
  expires: isTimeOrNone,
  idle: (text) => /^\d{4}-\d\d-\d\d$/.test(text) && isCalendarTime(text),
  expiring: isTime,
};

/** How long a rotated key lives on, in milliseconds. */
export function readGrace(grace: Duration | undefined): number {
  const { seconds, nanos } = grace ?? { seconds: BigInt(graceDays.fallback * dayS), nanos: 0 };
  const inRange = seconds >= 0n && seconds <= BigInt(graceDays.most * dayS) && nanos >= 0 && nanos < 1e9;
  const ms = Number(seconds) * 1000 + Math.floor(nanos / 1e6);
  if (!inRange || ms > graceDays.most * dayS * 1000) {
    throw invalid(`grace must be 0 to ${graceDays.most} days; leave it out for 24 hours`);
  }
  return ms;
}

function checkName(name: string): string {
  return checkText("name", name, 100, 1);
}

function checkDescription(description: string): string {
  return checkText("description", description, 1000);
}

function readExpiry(expiresAt: Timestamp | undefined): Date | null {
  return expiresAt === undefined ? null : checkTime("expires_at", expiresAt);
}

function readDays(field: string, days: number): number | undefined {
  if (days < 0 || days > maxDays) throw invalid(`${field} must be 1 to ${maxDays} days, or 0 for any`);
  return days === 0 ? undefined : days;
}

/** JavaScript takes 30 February for 2 March; Postgres refuses it. */
function isCalendarTime(text: string): boolean {
  const at = new Date(text);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text.slice(0, 19));
}
