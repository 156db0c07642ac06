import { moment } from "../../parts/moment.ts";
import { id, oneOf, searchOf, text } from "../../search.ts";

/** What can be done, as the server spells it, and as the console says it. */
export const actionWords: Record<string, string> = {
  "api_key.create": "Key created",
  "api_key.import": "Key imported",
  "api_key.update": "Key changed",
  "api_key.rotate": "Key rotated",
  "api_key.revoke": "Key revoked",
  "api_key.delete": "Key deleted",
  "session.create": "Signed in",
  "session.end": "Session ended",
  "user.create": "User created",
  "user.update": "User changed",
  "user.delete": "User deleted",
};

export const auditSearch = searchOf({
  action: oneOf(Object.keys(actionWords)),
  /** The user who did it. */
  actor: id,
  /** The user to whom, or to whose key, it was done. */
  target: id,
  key: text,
  from: moment,
  to: moment,
  /** The event that is open. */
  row: id,
  page: text,
});
export type AuditSearch = ReturnType<typeof auditSearch>;
