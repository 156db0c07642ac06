/** API keys in Postgres: how they are read, and the row of a new one. */
import { eq, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { createGrant, type Grant } from "../auth/grant.ts";
import { type Actor, audit } from "../db/audit.ts";
import type { Database, Executor } from "../db/client.ts";
import { apiKeys, apiKeyUsage, users } from "../db/schema.ts";
import { callerScope, checkWithin, holdUsers } from "./caller.ts";
import { changedFields } from "./changed-fields.ts";
import { type ApiKeyFilter, countKeys, type ListedKey, listKeys } from "./list.ts";
import {
  type ApiKeyRecord,
  type ApiKeyStatus,
  type ApiKeyType,
  readKey,
  readKeys,
  scopeOf,
  storedRange,
} from "./record.ts";

export interface NewApiKey {
  userId: bigint;
  name: string;
  description: string;
  type: ApiKeyType;
  /** Base64, see `hashToken`. */
  hash: string;
  start: string;
  /** Null: never expires. */
  expiresAt: Date | null;
  /** Method patterns; none: whatever the user may call. */
  allowedMethods?: readonly string[];
  /** CIDR blocks in normal form; none: from anywhere. */
  allowedAddresses?: readonly string[];
  /** Default false. */
  canVerify?: boolean;
  /** The key that it replaces by rotation. */
  rotatedFrom?: string;
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
  /** The grants behind hashes, by these; of a hash that no key has there is none. */
  readGrants(hashes: readonly string[]): Promise<Map<string, Grant>>;
  /** Whether any key was imported. */
  hasImported(): Promise<boolean>;
  /** Undefined: there is no such key. */
  get(id: string): Promise<ApiKeyRecord | undefined>;
  /** Those that there are, in the order of their ids. */
  getAll(ids: readonly string[]): Promise<ApiKeyRecord[]>;
  /** How many keys of each status match. */
  count(filter: Pick<ApiKeyFilter, "userId" | "type" | "search">): Promise<Record<ApiKeyStatus, bigint>>;
  /** At most `limit` keys, those after the cursor, in the order that `orderOf` tells for the filter. */
  list(filter: ApiKeyFilter, limit: number, after?: readonly string[]): Promise<ListedKey[]>;
}

export function createApiKeyStore(db: Database): ApiKeyStore {
  const grantsByHash = db
    .select({
      hash: apiKeys.hash,
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
    .where(sql`${apiKeys.hash} = ANY (${sql.placeholder("hashes")}::bytea[])`)
    .prepare("grants_by_hash");
  const imported = db
    .select({ id: apiKeys.id })
    .from(apiKeys)
    .where(sql`${apiKeys.imported}`)
    .limit(1)
    .prepare("any_imported_key");

  return {
    async readGrants(hashes) {
      // As Postgres writes an array: what postgres.js makes of one of buffers depends on how it is connected.
      const array = `{${hashes.map((hash) => `"\\\\x${Buffer.from(hash, "base64").toString("hex")}"`).join()}}`;
      const rows = await grantsByHash.execute({ hashes: array });
      return new Map(
        rows.map(({ hash, expiresAt, revokedAt, allowedAddresses, ...grant }) => [
          hash.toString("base64"),
          createGrant({
            ...grant,
            expiresAtMs: expiresAt?.getTime(),
            revokedAtMs: revokedAt?.getTime(),
            allowedAddresses: allowedAddresses.map(storedRange),
          }),
        ]),
      );
    },
    async hasImported() {
      return (await imported.execute()).length > 0;
    },
    get: (id) => readKey(db, id),
    getAll: (ids) => readKeys(db, ids),
    count: (filter) => countKeys(db, filter),
    list: (filter, limit, after) => listKeys(db, filter, limit, after),
  };
}

/**
 * Creates a key within a transaction, as a caller may: for a user that is there and
 * active, and within the scope of the caller's own key. Rejects with
 * {@link UserNotFoundError}, {@link UserDisabledError} and what `callerScope` and
 * `checkWithin` reject with.
 */
export async function createApiKey(tx: Executor, key: NewApiKey, actor: Actor): Promise<ApiKeyRecord> {
  const held = await holdUsers(tx, actor, [key.userId]);
  checkWithin(scopeOfNew(key), await callerScope(tx, actor));
  checkUser(held.get(key.userId), key.userId);
  return insertApiKey(tx, key, actor);
}

/** How much a key will be able to do. */
export function scopeOfNew(key: NewApiKey) {
  const { allowedMethods = [], allowedAddresses = [], canVerify = false, expiresAt } = key;
  return scopeOf({
    allowedMethods: [...allowedMethods],
    allowedAddresses: [...allowedAddresses],
    canVerify,
    expiresAt,
  });
}

/** Rejects a user that can have no new key, with {@link UserNotFoundError} or {@link UserDisabledError}. */
export function checkUser(user: { isActive: boolean } | undefined, userId: bigint): void {
  if (user === undefined) throw new UserNotFoundError(`user ${userId} not found`);
  if (!user.isActive) throw new UserDisabledError(`user ${userId} is disabled`);
}

/** Writes the row of a new key, whose user is held and whose scope is checked, and its audit event. */
export async function insertApiKey(tx: Executor, key: NewApiKey, actor: Actor): Promise<ApiKeyRecord> {
  const { allowedMethods = [], allowedAddresses = [], ...rest } = key;
  const id = uuidv7();
  await tx.insert(apiKeys).values({
    ...rest,
    allowedMethods: [...allowedMethods],
    allowedAddresses: [...allowedAddresses],
    id,
    hash: Buffer.from(key.hash, "base64"),
    createdBy: actor.userId ?? null,
  });
  await tx.insert(apiKeyUsage).values({ apiKeyId: id });
  const created = await readKey(tx, id);
  if (created === undefined) throw new Error("a key that was just inserted is not there");
  await audit(tx, actor, {
    action: "api_key.create",
    targetUserId: key.userId,
    targetApiKeyId: id,
    after: { start: created.start, ...changedFields(undefined, created).after },
  });
  return created;
}
