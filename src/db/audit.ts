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

export type AuditAction =
  | "api_key.create"
  | "api_key.import"
  | "api_key.update"
  | "api_key.rotate"
  | "api_key.revoke"
  | "api_key.delete"
  | "user.create"
  | "user.update"
  | "user.delete";

/** What was changed. `before` and `after` hold the fields that changed: never a token, never a hash. */
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

/** Writes an audit event for each of many changes, in one statement. */
export async function auditAll(tx: Executor, actor: Actor, changes: readonly AuditedChange[]): Promise<void> {
  if (changes.length === 0) return;
  await tx.insert(auditEvents).values(
    changes.map((change) => ({
      ...change,
      actorUserId: actor.userId ?? null,
      actorApiKeyId: actor.apiKeyId ?? null,
      peerAddress: actor.peerAddress ?? null,
      requestId: actor.requestId ?? null,
    })),
  );
}
