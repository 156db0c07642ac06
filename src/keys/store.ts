/** API keys in Postgres. */
import { and, desc, eq, getTableColumns, gt, isNull, lt, lte, not, or, type SQL, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { type AddressRange, parseAddressRange } from "../auth/address-range.ts";
import type { Grant } from "../auth/grant.ts";
import { type Actor, audit } from "../db/audit.ts";
import type { Database, Executor } from "../db/client.ts";
import { apiKeys, apiKeyUsage, users } from "../db/schema.ts";

type Row = Omit<typeof apiKeys.$inferSelect, "hash">;

/** A key and what it has used; never its hash. */
export interface ApiKeyRecord extends Row {
  readonly requestCount: bigint;
  readonly lastUsedAt: Date | null;
}

export type ApiKeyType = Row["type"];
export type ApiKeyStatus = "active" | "expired" | "revoked";

export interface NewApiKey {
  userId: bigint;
  name: string;
  description: string;
  type: ApiKeyType;
  /** Base64, see `hashToken`. */
  hash: string;
  start: string;
  expiresAt: Date | null;
}

export interface ApiKeyFilter {
  userId?: bigint | undefined;
  type?: ApiKeyType | undefined;
  status?: ApiKeyStatus | undefined;
}

/** The user for whom a key is made does not exist. */
export class UserNotFoundError extends Error {
  override name = "UserNotFoundError";
}

/** The user for whom a key is made is disabled. */
export class UserDisabledError extends Error {
  override name = "UserDisabledError";
}

export interface ApiKeyStore {
  /** The grant behind a hash. Undefined: no key has it. */
  readGrant(hash: string): Promise<Grant | undefined>;
  /** Whether any key was imported. */
  hasImported(): Promise<boolean>;
  /** Rejects with {@link UserNotFoundError} and {@link UserDisabledError}. */
  create(key: NewApiKey, actor: Actor): Promise<ApiKeyRecord>;
  /** Undefined: there is no such key. */
  get(id: string): Promise<ApiKeyRecord | undefined>;
  /** Newest first, at most `limit`, those before `beforeId`. */
  list(filter: ApiKeyFilter, limit: number, beforeId?: string): Promise<ApiKeyRecord[]>;
  /** Revokes a key; one that is revoked already stays as it is. Undefined: there is no such key. */
  revoke(id: string, actor: Actor): Promise<ApiKeyRecord | undefined>;
}

const { hash: _, ...columns } = getTableColumns(apiKeys);

/** What a record is selected by. */
export const selected = {
  ...columns,
  requestCount: apiKeyUsage.requestCount,
  lastUsedAt: apiKeyUsage.lastUsedAt,
};

export function createApiKeyStore(db: Database): ApiKeyStore {
  const grantByHash = db
    .select({
      apiKeyId: apiKeys.id,
      userId: users.id,
      username: users.username,
      isStaff: users.isStaff,
      isActive: users.isActive,
      expiresAt: apiKeys.expiresAt,
      revokedAt: apiKeys.revokedAt,
      allowedMethods: apiKeys.allowedMethods,
      allowedAddresses: apiKeys.allowedAddresses,
      canVerify: apiKeys.canVerify,
    })
    .from(apiKeys)
    .innerJoin(users, eq(users.id, apiKeys.userId))
    .where(eq(apiKeys.hash, sql.placeholder("hash")))
    .prepare("grant_by_hash");
  const imported = db
    .select({ id: apiKeys.id })
    .from(apiKeys)
    .where(sql`${apiKeys.imported}`)
    .limit(1)
    .prepare("any_imported_key");

  return {
    async readGrant(hash) {
      const [row] = await grantByHash.execute({ hash: Buffer.from(hash, "base64") });
      if (row === undefined) return undefined;
      const { expiresAt, revokedAt, allowedAddresses, ...grant } = row;
      return {
        ...grant,
        expiresAtMs: expiresAt?.getTime(),
        revokedAtMs: revokedAt?.getTime(),
        allowedAddresses: allowedAddresses.map(storedRange),
      };
    },
    async hasImported() {
      return (await imported.execute()).length > 0;
    },
    create: (key, actor) => db.transaction((tx) => createApiKey(tx, key, actor)),
    get: (id) => select(db, eq(apiKeys.id, id)),
    list(filter, limit, beforeId) {
      return db
        .select(selected)
        .from(apiKeys)
        .innerJoin(apiKeyUsage, eq(apiKeyUsage.apiKeyId, apiKeys.id))
        .where(and(...conditions(filter), beforeId === undefined ? undefined : lt(apiKeys.id, beforeId)))
        .orderBy(desc(apiKeys.id))
        .limit(limit);
    },
    revoke(id, actor) {
      return db.transaction(async (tx) => {
        const revoked = await tx
          .update(apiKeys)
          .set({ revokedAt: sql`now()`, revocationReason: "unspecified", updatedAt: sql`now()` })
          .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
          .returning({ userId: apiKeys.userId, revokedAt: apiKeys.revokedAt });
        for (const { userId, revokedAt } of revoked) {
          await audit(tx, actor, {
            action: "api_key.revoke",
            targetUserId: userId,
            targetApiKeyId: id,
            before: { revoked_at: null },
            after: { revoked_at: revokedAt },
          });
        }
        return select(tx, eq(apiKeys.id, id));
      });
    },
  };
}

/** Creates a key within a transaction that does more than that. */
export async function createApiKey(tx: Executor, key: NewApiKey, actor: Actor): Promise<ApiKeyRecord> {
  // The lock holds the user still: it cannot be disabled or deleted between this check and the insert.
  const [user] = await tx
    .select({ isActive: users.isActive })
    .from(users)
    .where(eq(users.id, key.userId))
    .for("share");
  if (user === undefined) throw new UserNotFoundError(`user ${key.userId} not found`);
  if (!user.isActive) throw new UserDisabledError(`user ${key.userId} is disabled`);

  const id = uuidv7();
  await tx
    .insert(apiKeys)
    .values({ ...key, id, hash: Buffer.from(key.hash, "base64"), createdBy: actor.userId ?? null });
  await tx.insert(apiKeyUsage).values({ apiKeyId: id });
  const created = await select(tx, eq(apiKeys.id, id));
  if (created === undefined) throw new Error("a key that was just inserted is not there");
  await audit(tx, actor, {
    action: "api_key.create",
    targetUserId: key.userId,
    targetApiKeyId: id,
    after: {
      name: created.name,
      description: created.description,
      type: created.type,
      start: created.start,
      expires_at: created.expiresAt,
    },
  });
  return created;
}

/** One that cannot be read, which only a hand in the table can have written, must not open the key to the world. */
function storedRange(text: string): AddressRange {
  const range = parseAddressRange(text);
  if (range === undefined) throw new Error(`an API key has the allowed address ${text}, which is none`);
  return range;
}

/** The status of a key at a time. */
export function statusOf(key: Pick<Row, "revokedAt" | "expiresAt">, now: Date): ApiKeyStatus {
  if (key.revokedAt !== null) return "revoked";
  return key.expiresAt !== null && key.expiresAt <= now ? "expired" : "active";
}

async function select(db: Executor, where: SQL): Promise<ApiKeyRecord | undefined> {
  const [row] = await db
    .select(selected)
    .from(apiKeys)
    .innerJoin(apiKeyUsage, eq(apiKeyUsage.apiKeyId, apiKeys.id))
    .where(where);
  return row;
}

function conditions(filter: ApiKeyFilter): (SQL | undefined)[] {
  const expired = lte(apiKeys.expiresAt, sql`now()`);
  const byStatus: Record<ApiKeyStatus, SQL | undefined> = {
    active: and(isNull(apiKeys.revokedAt), or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`now()`))),
    expired: and(isNull(apiKeys.revokedAt), expired),
    revoked: not(isNull(apiKeys.revokedAt)),
  };
  return [
    filter.userId === undefined ? undefined : eq(apiKeys.userId, filter.userId),
    filter.type === undefined ? undefined : eq(apiKeys.type, filter.type),
    filter.status === undefined ? undefined : byStatus[filter.status],
  ];
}
