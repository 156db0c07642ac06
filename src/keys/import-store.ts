/** Keys of other systems, taken over into Postgres. */
import { inArray } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { type Actor, auditAll } from "../db/audit.ts";
import type { Executor, Transact } from "../db/client.ts";
import { apiKeys, apiKeyUsage } from "../db/schema.ts";
import { callerScope, holdUsers } from "./caller.ts";
import { type ApiKeyRecord, type ApiKeyType, readKeys, scopeOf } from "./record.ts";
import { ExceedsCallerError } from "./refusal.ts";
import { excessOf } from "./scope.ts";
import { checkUser } from "./store.ts";

/** A key of another system. */
export interface KeyToImport {
  readonly userId: bigint;
  readonly name: string;
  readonly description: string;
  readonly type: ApiKeyType;
  /** Base64, see `hashToken`. */
  readonly hash: string;
  readonly start: string;
  readonly allowedMethods: string[];
  /** As `formatAddressRange` writes them. */
  readonly allowedAddresses: string[];
  readonly expiresAt: Date | null;
  /** From 1970 on. */
  readonly createdAt: Date;
  readonly lastUsedAt: Date | null;
}

export interface ImportStore {
  /**
   * Makes the keys whose hashes are not there yet, all or none, and returns every
   * one in the order given. No two may have one hash. Rejects as `createApiKey` does.
   */
  importAll(
    keys: readonly KeyToImport[],
    actor: Actor,
  ): Promise<{ readonly key: ApiKeyRecord; readonly created: boolean }[]>;
}

export function createImportStore(transact: Transact): ImportStore {
  return {
    importAll(keys, actor) {
      if (keys.length === 0) return Promise.resolve([]);
      return transact(async (tx) => {
        const userIds = [...new Set(keys.map((key) => key.userId))];
        const users = await holdUsers(tx, actor, userIds);
        await checkWithinCaller(tx, keys, actor);
        for (const id of userIds) checkUser(users.get(id), id);
        const made = new Set<string>();
        let known = new Map<string, string>();
        let missing = keys;
        // Again only where a key that was there is deleted in between.
        while (missing.length > 0) {
          for (const id of await insertNew(tx, missing, actor)) made.add(id);
          known = await idsByHash(tx, keys);
          missing = keys.filter(({ hash }) => !known.has(hash));
        }
        const records = await readAll(tx, [...known.values()]);
        return keys.map(({ hash }) => {
          const key = records.get(known.get(hash) ?? "");
          if (key === undefined) throw new Error("a key that was just imported is not there");
          return { key, created: made.has(key.id) };
        });
      });
    },
  };
}

/** A key passes on no more than it has. Rejects with {@link ExceedsCallerError} and what `callerScope` rejects with. */
async function checkWithinCaller(tx: Executor, keys: readonly KeyToImport[], actor: Actor): Promise<void> {
  const limit = await callerScope(tx, actor);
  for (const [i, key] of keys.entries()) {
    const excess = excessOf(scopeOf({ ...key, canVerify: false }), limit);
    if (excess !== undefined) throw new ExceedsCallerError(`api_keys[${i}].${excess}`);
  }
}

/** Inserts those whose hash is not there. Returns their ids. */
async function insertNew(tx: Executor, keys: readonly KeyToImport[], actor: Actor): Promise<string[]> {
  const rows = keys.map((key, i) => ({
    ...key,
    // Of its creation, so that the order of ids is still the order of creation; of one instant, the order given.
    id: uuidv7({ msecs: key.createdAt.getTime(), seq: i }),
    hash: Buffer.from(key.hash, "base64"),
    imported: true,
    createdBy: actor.userId ?? null,
  }));
  // Two imports of the same keys wait for each other at the same one first: neither holds what the other needs.
  const inserted = await tx
    .insert(apiKeys)
    .values(rows.toSorted((a, b) => a.hash.compare(b.hash)))
    .onConflictDoNothing({ target: apiKeys.hash })
    .returning({ id: apiKeys.id });
  const ids = new Set(inserted.map(({ id }) => id));
  const created = rows.filter(({ id }) => ids.has(id));
  if (created.length === 0) return [];
  await tx.insert(apiKeyUsage).values(
    created.map(({ id, createdAt, lastUsedAt }) => ({
      apiKeyId: id,
      lastUsedAt,
      idleSince: (lastUsedAt ?? createdAt).toISOString().slice(0, 10),
    })),
  );
  await auditAll(tx, actor, created.map(describe));
  return created.map(({ id }) => id);
}

function describe(key: Omit<KeyToImport, "hash"> & { readonly id: string }) {
  return {
    action: "api_key.import",
    targetUserId: key.userId,
    targetApiKeyId: key.id,
    after: {
      name: key.name,
      description: key.description,
      type: key.type,
      start: key.start,
      allowed_methods: key.allowedMethods,
      allowed_addresses: key.allowedAddresses,
      expires_at: key.expiresAt,
      created_at: key.createdAt,
    },
  } as const;
}

async function idsByHash(tx: Executor, keys: readonly KeyToImport[]): Promise<Map<string, string>> {
  const hashes = keys.map(({ hash }) => Buffer.from(hash, "base64"));
  const rows = await tx
    .select({ id: apiKeys.id, hash: apiKeys.hash })
    .from(apiKeys)
    .where(inArray(apiKeys.hash, hashes));
  return new Map(rows.map(({ id, hash }) => [hash.toString("base64"), id]));
}

async function readAll(tx: Executor, ids: string[]): Promise<Map<string, ApiKeyRecord>> {
  return new Map((await readKeys(tx, ids)).map((key) => [key.id, key]));
}
