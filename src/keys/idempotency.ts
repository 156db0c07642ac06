/** Requests that made a key, remembered for a day: sent again, they make no other. */
import { createHash } from "node:crypto";
import { and, eq, gt, sql } from "drizzle-orm";
import type { Executor } from "../db/client.ts";
import { idempotentRequests } from "../db/schema.ts";
import { type ApiKeyRecord, readKey } from "./record.ts";
import { RequestIdTakenError } from "./refusal.ts";

/** Any number of 32 bits, the same in every instance. */
const requestLock = 727_095_182;
const rememberedFor = sql`interval '24 hours'`;

/** A request that makes a key once, however often it is sent. */
export interface OnceOnly {
  /** Who sends it: two users may choose the same id. */
  readonly userId: bigint;
  readonly requestId: string;
  /** SHA-256 of what was asked for. */
  readonly digest: Buffer;
}

/** What a request made when it was sent before. */
export interface MadeBefore {
  readonly key: ApiKeyRecord;
  readonly at: Date;
}

/** Makes requests with the same id wait for each other until the transaction ends. Call it before any other lock. */
export async function takeTurns(tx: Executor, { userId, requestId }: OnceOnly): Promise<void> {
  const bits = createHash("sha256").update(`${userId} ${requestId}`).digest().readInt32BE();
  await tx.execute(sql`SELECT pg_advisory_xact_lock(${requestLock}::int, ${bits}::int)`);
}

/**
 * What the request made before, within a day; undefined: it is new. Rejects with
 * {@link RequestIdTakenError} where its id was used for another request.
 */
export async function findMade(tx: Executor, once: OnceOnly): Promise<MadeBefore | undefined> {
  const [made] = await tx
    .select()
    .from(idempotentRequests)
    .where(
      and(
        eq(idempotentRequests.userId, once.userId),
        eq(idempotentRequests.requestId, once.requestId),
        gt(idempotentRequests.createdAt, sql`now() - ${rememberedFor}`),
      ),
    );
  if (made === undefined) return undefined;
  if (!made.digest.equals(once.digest)) {
    throw new RequestIdTakenError(
      `request_id was used for another request at ${made.createdAt.toISOString()}: choose a new one`,
    );
  }
  const key = await readKey(tx, made.apiKeyId);
  return key && { key, at: made.createdAt };
}

/** Remembers what the request made. */
export async function remember(tx: Executor, once: OnceOnly, apiKeyId: string): Promise<void> {
  const made = { digest: once.digest, apiKeyId, createdAt: sql`now()` };
  await tx
    .insert(idempotentRequests)
    .values({ userId: once.userId, requestId: once.requestId, ...made })
    // One of more than a day ago.
    .onConflictDoUpdate({ target: [idempotentRequests.userId, idempotentRequests.requestId], set: made });
}
