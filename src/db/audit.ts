/** Who changed which key or user, written in the change's own transaction. */
import type { Executor } from "./client.ts";
import { auditEvents } from "./schema.ts";

/** Who makes a change; undefined ids: the bootstrap command or the server itself. */
export interface Actor {
  readonly userId?: bigint | undefined;
  readonly apiKeyId?: string | undefined;
  readonly peerAddress?: string | undefined;
  readonly requestId?: string | undefined;
}

/** Everything that is audited. */
export const auditActions = [
  "api_key.create",
  "api_key.delete",
  "api_key.import",
  "api_key.revoke",
  "api_key.rotate",
  "api_key.update",
  "session.create",
  "session.end",
  "user.create",
  "user.delete",
  "user.update",
] as const;

export type AuditAction = (typeof auditActions)[number];

/**
 * What was changed. `before` and `after` hold the fields that changed, named as in
 * the proto: never a token, never a hash. Ids and times in them are stored as text.
 */
export interface AuditedChange {
  readonly action: AuditAction;
  readonly targetUserId?: bigint;
  readonly targetApiKeyId?: string;
  readonly before?: Readonly<Record<string, unknown>>;
  readonly after?: Readonly<Record<string, unknown>>;
}

/** Writes one audit event. Call it in the transaction that makes the change. */
export async function audit(tx: Executor, actor: Actor, change: AuditedChange): Promise<void> {
  await auditAll(tx, actor, [change]);
}

/** Bounds the parameters of one statement. */
const eventsAtOnce = 1000;

/** Writes an audit event for each of many changes, a thousand in a statement. */
export async function auditAll(tx: Executor, actor: Actor, changes: readonly AuditedChange[]): Promise<void> {
  for (let i = 0; i < changes.length; i += eventsAtOnce) {
    await insertEvents(tx, actor, changes.slice(i, i + eventsAtOnce));
  }
}

async function insertEvents(tx: Executor, actor: Actor, changes: readonly AuditedChange[]): Promise<void> {
  await tx.insert(auditEvents).values(
    changes.map((change) => ({
      ...change,
      before: asJson(change.before),
      after: asJson(change.after),
      actorUserId: actor.userId ?? null,
      actorApiKeyId: actor.apiKeyId ?? null,
      peerAddress: actor.peerAddress ?? null,
      requestId: actor.requestId ?? null,
    })),
  );
}

/** The fields as JSON has them, which knows no bigint. */
function asJson(fields: Readonly<Record<string, unknown>> | undefined): unknown {
  if (fields === undefined) return undefined;
  return JSON.parse(
    JSON.stringify(fields, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)),
  );
}
