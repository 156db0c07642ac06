import { id, oneOf, searchOf, text } from "../../search.ts";

export const keyOrders = ["created", "name", "requests", "lastUsed", "expires"] as const;
export const keyFilters = ["unused30", "unused90", "expiring7", "expiring30"] as const;

export const keysSearch = searchOf({
  q: text,
  status: oneOf(["active", "expired", "revoked"]),
  type: oneOf(["service", "cli", "webhook", "internal", "development"]),
  user: id,
  attention: oneOf(keyFilters),
  sort: oneOf(keyOrders),
  dir: oneOf(["asc", "desc"]),
  page: text,
});
