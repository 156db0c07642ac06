/** Sessions in Postgres: how they begin, are looked up and end. */
import { and, desc, eq, gt, isNull, lt, or, type SQL, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { type Actor, audit } from "../db/audit.ts";
import type { Database, Executor, Transact } from "../db/client.ts";
import { apiKeys, sessions, users } from "../db/schema.ts";
import { callerScope, holdUsers } from "../keys/caller.ts";

/** A session as it is read; never its hash. */
export interface SessionRecord {
  /** UUIDv7: the order of ids is the order of creation. */
  readonly id: string;
  readonly userId: bigint;
  readonly username: string;
  /** Null: the secret key signed in. */
  readonly apiKeyId: string | null;
  readonly createdAt: Date;
  readonly seenAt: Date;
  readonly expiresAt: Date;
  readonly endsAt: Date;
  readonly peerAddress: string | null;
  readonly userAgent: string;
}

export interface NewSession {
  /** Base64, see `SessionSecrets`. */
  readonly hash: string;
  readonly userId: bigint;
  /** Undefined: the secret key signs in. */
  readonly apiKeyId: string | undefined;
  readonly userAgent: string;
  /** The hash of the session that this one takes the place of. */
  readonly replaced: string | undefined;
}

/** How long sessions last. */
export interface SessionLife {
  readonly maxAgeMs: number;
  readonly maxIdleMs: number;
}

export interface SessionStore {
  /** Begins a session. Rejects with `CallerEndedError` where the key or user has ended meanwhile. */
  create(session: NewSession, actor: Actor): Promise<SessionRecord>;
  /** Undefined: there is none, or it has ended. */
  get(id: string): Promise<SessionRecord | undefined>;
  /** Those that have not ended, the newest first, at most `limit`, those before the session `beforeId`. */
  list(userId: bigint | undefined, limit: number, beforeId?: string): Promise<SessionRecord[]>;
  /** Ends the session with a hash, for whom it signed in; false: there is none. */
  signOut(hash: string, actor: Pick<Actor, "peerAddress" | "requestId">): Promise<boolean>;
  /** Ends a session; false: there is none. */
  revoke(id: string, actor: Actor): Promise<boolean>;
}

/** More of one key, or of one user by the secret key, end those that were longest unused. */
const mostSessions = 20;
/** With any number, the same in every instance. */
const signInLock = 727_095;

const columns = {
  id: sessions.id,
  userId: sessions.userId,
  username: users.username,
  apiKeyId: sessions.apiKeyId,
  createdAt: sessions.createdAt,
  seenAt: sessions.seenAt,
  expiresAt: sessions.expiresAt,
  endsAt: sessions.endsAt,
  peerAddress: sessions.peerAddress,
  userAgent: sessions.userAgent,
};

/** Neither it nor the key behind it has ended. A disabled user has none. */
const isAlive = and(
  gt(sessions.expiresAt, sql`now()`),
  isNull(apiKeys.revokedAt),
  or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`now()`)),
);

export function createSessionStore(db: Database, transact: Transact, life: SessionLife): SessionStore {
  const read = (executor: Executor) =>
    executor
      .select(columns)
      .from(sessions)
      .innerJoin(users, eq(users.id, sessions.userId))
      .leftJoin(apiKeys, eq(apiKeys.id, sessions.apiKeyId));

  return {
    create(session, actor) {
      return transact(async (tx) => {
        const { hash, userId, apiKeyId, userAgent, replaced } = session;
        await holdUsers(tx, actor, []);
        await callerScope(tx, actor);
        // One sign-in of a key at a time: each counts what those before it have left.
        await tx.execute(
          sql`SELECT pg_advisory_xact_lock(${signInLock}, hashtext(${apiKeyId ?? `user ${userId}`}))`,
        );
        if (replaced !== undefined) await end(tx, eq(sessions.hash, bytes(replaced)), "replaced", actor);
        const id = uuidv7();
        await tx.insert(sessions).values({
          id,
          hash: bytes(hash),
          userId,
          apiKeyId: apiKeyId ?? null,
          expiresAt: after(Math.min(life.maxIdleMs, life.maxAgeMs)),
          endsAt: after(life.maxAgeMs),
          peerAddress: actor.peerAddress ?? null,
          userAgent,
        });
        await endSurplus(tx, session, actor);
        const [created] = await read(tx).where(eq(sessions.id, id));
        if (created === undefined) throw new Error("a session that was just inserted is not there");
        await audit(tx, actor, {
          action: "session.create",
          targetUserId: userId,
          ...(apiKeyId !== undefined && { targetApiKeyId: apiKeyId }),
          after: { session_id: id, ends_at: created.endsAt },
        });
        return created;
      });
    },
    async get(id) {
      return (await read(db).where(and(eq(sessions.id, id), isAlive)))[0];
    },
    list(userId, limit, beforeId) {
      return read(db)
        .where(
          and(
            isAlive,
            userId === undefined ? undefined : eq(sessions.userId, userId),
            beforeId === undefined ? undefined : lt(sessions.id, beforeId),
          ),
        )
        .orderBy(desc(sessions.id))
        .limit(limit);
    },
    signOut(hash, actor) {
      return transact(async (tx) => {
        const [found] = await tx
          .select()
          .from(sessions)
          .where(eq(sessions.hash, bytes(hash)));
        if (found === undefined) return false;
        const by = { ...actor, userId: found.userId, apiKeyId: found.apiKeyId ?? undefined };
        return end(tx, eq(sessions.id, found.id), "signed_out", by);
      });
    },
    revoke: (id, actor) => transact((tx) => end(tx, eq(sessions.id, id), "revoked", actor)),
  };
}

/** Ends sessions, with an audit event each. False: there were none. */
async function end(
  tx: Executor,
  which: SQL,
  reason: "signed_out" | "revoked" | "replaced",
  actor: Actor,
): Promise<boolean> {
  const ended = await tx
    .delete(sessions)
    .where(which)
    .returning({ id: sessions.id, userId: sessions.userId, apiKeyId: sessions.apiKeyId });
  for (const { id, userId, apiKeyId } of ended) {
    await audit(tx, actor, {
      action: "session.end",
      targetUserId: userId,
      ...(apiKeyId !== null && { targetApiKeyId: apiKeyId }),
      before: { session_id: id },
      after: { reason },
    });
  }
  return ended.length > 0;
}

async function endSurplus(tx: Executor, { userId, apiKeyId }: NewSession, actor: Actor): Promise<void> {
  const ofSame =
    apiKeyId === undefined
      ? and(eq(sessions.userId, userId), isNull(sessions.apiKeyId))
      : eq(sessions.apiKeyId, apiKeyId);
  const surplus = tx
    .select({ id: sessions.id })
    .from(sessions)
    .where(ofSame)
    .orderBy(desc(sessions.seenAt), desc(sessions.id))
    .offset(mostSessions);
  await end(tx, sql`${sessions.id} IN ${surplus}`, "replaced", actor);
}

function bytes(hash: string): Buffer {
  return Buffer.from(hash, "base64");
}

/** So many milliseconds from now. */
function after(ms: number): SQL {
  return sql`now() + make_interval(secs => ${ms / 1000}::float8)`;
}
