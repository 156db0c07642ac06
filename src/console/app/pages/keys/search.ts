/** What the listing of keys keeps in the URL, and the request that it stands for. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  ApiKeyOrder,
  ApiKeyStatus,
  ApiKeyType,
  type ListApiKeysRequestSchema,
} from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { id, oneOf, searchOf, text } from "../../search.ts";

const statuses = {
  active: ApiKeyStatus.ACTIVE,
  expired: ApiKeyStatus.EXPIRED,
  revoked: ApiKeyStatus.REVOKED,
} as const;
export type StatusName = keyof typeof statuses;

const types = {
  service: ApiKeyType.SERVICE,
  cli: ApiKeyType.CLI,
  webhook: ApiKeyType.WEBHOOK,
  internal: ApiKeyType.INTERNAL,
  development: ApiKeyType.DEVELOPMENT,
} as const;

const orders = {
  created: ApiKeyOrder.CREATED,
  name: ApiKeyOrder.NAME,
  requests: ApiKeyOrder.REQUESTS,
  lastUsed: ApiKeyOrder.LAST_USED,
  expires: ApiKeyOrder.EXPIRES,
} as const;

/** Keys that somebody should look at. Each has an order of its own. */
const attentions = {
  unused30: { unusedForDays: 30 },
  unused90: { unusedForDays: 90 },
  expiring7: { expiresWithinDays: 7 },
  expiring30: { expiresWithinDays: 30 },
} as const;

export const typeOptions = {
  service: "Service",
  cli: "CLI",
  webhook: "Webhook",
  internal: "Internal",
  development: "Development",
} as const;

export const attentionOptions = {
  unused30: "Unused for 30 days",
  unused90: "Unused for 90 days",
  expiring7: "Expire within 7 days",
  expiring30: "Expire within 30 days",
} as const;

const names = <T extends object>(of: T) => Object.keys(of) as (keyof T & string)[];

export const keysSearch = searchOf({
  q: text,
  status: oneOf(names(statuses)),
  type: oneOf(names(types)),
  user: id,
  attention: oneOf(names(attentions)),
  sort: oneOf(names(orders)),
  dir: oneOf(["asc", "desc"]),
  page: text,
});
export type KeysSearch = ReturnType<typeof keysSearch>;

export const pageSize = 50;

/** The filters that the counts by status have too. */
export function countRequest({ q = "", user, type }: KeysSearch) {
  return {
    search: q,
    userId: user === undefined ? 0n : BigInt(user),
    type: type === undefined ? ApiKeyType.UNSPECIFIED : types[type],
  };
}

export function listRequest(search: KeysSearch): MessageInitShape<typeof ListApiKeysRequestSchema> {
  const { status, attention, sort, dir, page = "" } = search;
  return {
    ...countRequest(search),
    status: status === undefined ? ApiKeyStatus.UNSPECIFIED : statuses[status],
    ...(attention === undefined
      ? { order: orders[sort ?? "created"], descending: (dir ?? "desc") === "desc" }
      : attentions[attention]),
    pageSize,
    pageToken: page,
  };
}
