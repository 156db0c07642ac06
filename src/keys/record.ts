/** An API key as it is read: its row without the hash, what it has used and what it was rotated into. */
import { asc, eq, getTableColumns, inArray, sql } from "drizzle-orm";
import { type AddressRange, parseAddressRange } from "../auth/address-range.ts";
import type { Executor } from "../db/client.ts";
import { apiKeys, apiKeyUsage, users } from "../db/schema.ts";
import type { Scope } from "./scope.ts";

type Row = Omit<typeof apiKeys.$inferSelect, "hash">;

/** A key and what it has used; never its hash. */
export interface ApiKeyRecord extends Row {
  readonly requestCount: bigint;
  readonly lastUsedAt: Date | null;
  /** The key that replaced this one by rotation. */
  readonly rotatedTo: string | null;
  /** Of the user whom it signs in. */
  readonly username: string;
}

export type ApiKeyType = Row["type"];
export type ApiKeyStatus = "active" | "expired" | "revoked";
export type RevocationReason = NonNullable<Row["revocationReason"]>;

const { hash: _, ...columns } = getTableColumns(apiKeys);

/** What is selected for an {@link ApiKeyRecord}, from the keys joined with their usage. */
export const recordColumns = {
  ...columns,
  requestCount: apiKeyUsage.requestCount,
  lastUsedAt: apiKeyUsage.lastUsedAt,
  rotatedTo: sql<
    string | null
  >`(SELECT successor.id FROM ${apiKeys} successor WHERE successor.rotated_from = ${apiKeys.id})`,
  username: sql<string>`(SELECT owner.username FROM ${users} owner WHERE owner.id = ${apiKeys.userId})`,
};

/** One key. Undefined: there is no such key. */
export async function readKey(db: Executor, id: string): Promise<ApiKeyRecord | undefined> {
  return (await readKeys(db, [id]))[0];
}

/** Those that there are, in the order of their ids. */
export function readKeys(db: Executor, ids: readonly string[]): Promise<ApiKeyRecord[]> {
  return db
    .select(recordColumns)
    .from(apiKeys)
    .innerJoin(apiKeyUsage, eq(apiKeyUsage.apiKeyId, apiKeys.id))
    .where(inArray(apiKeys.id, [...ids]))
    .orderBy(asc(apiKeys.id));
}

/** The status of a key at a time. */
export function statusOf(key: Pick<Row, "revokedAt" | "expiresAt">, now: Date): ApiKeyStatus {
  if (key.revokedAt !== null) return "revoked";
  return key.expiresAt !== null && key.expiresAt <= now ? "expired" : "active";
}

/** How much a key can do by what is stored of it. */
export function scopeOf(
  key: Pick<Row, "allowedMethods" | "allowedAddresses" | "expiresAt" | "canVerify">,
): Scope {
  return {
    methods: key.allowedMethods,
    addresses: key.allowedAddresses.map(storedRange),
    expiresAt: key.expiresAt,
    canVerify: key.canVerify,
  };
}

/** One that cannot be read, which only a hand in the table can have written, must not open the key to the world. */
export function storedRange(text: string): AddressRange {
  const range = parseAddressRange(text);
  if (range === undefined) throw new Error(`an API key has the allowed address ${text}, which is none`);
  return range;
}
