/** Keys as messages: the record and the words that are stored, and the enums that stand for them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  ApiKeyOrder,
  type ApiKeySchema,
  ApiKeyStatus,
  ApiKeyType,
  RevocationReason,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { invalid } from "../rpc/validate.ts";
import type { SortOrder } from "./list.ts";
import {
  type ApiKeyRecord,
  type RevocationReason as StoredReason,
  type ApiKeyStatus as StoredStatus,
  type ApiKeyType as StoredType,
  statusOf,
} from "./record.ts";

const types: Readonly<Partial<Record<number, StoredType>>> = {
  [ApiKeyType.SERVICE]: "service",
  [ApiKeyType.CLI]: "cli",
  [ApiKeyType.WEBHOOK]: "webhook",
  [ApiKeyType.INTERNAL]: "internal",
  [ApiKeyType.DEVELOPMENT]: "development",
};

const statuses: Readonly<Partial<Record<number, StoredStatus>>> = {
  [ApiKeyStatus.ACTIVE]: "active",
  [ApiKeyStatus.EXPIRED]: "expired",
  [ApiKeyStatus.REVOKED]: "revoked",
};

const reasons: Readonly<Partial<Record<number, StoredReason>>> = {
  [RevocationReason.UNSPECIFIED]: "unspecified",
  [RevocationReason.UNUSED]: "unused",
  [RevocationReason.ROTATED]: "rotated",
  [RevocationReason.COMPROMISED]: "compromised",
  [RevocationReason.USER_ENDED]: "user_ended",
};

const orders: Readonly<Partial<Record<number, SortOrder>>> = {
  [ApiKeyOrder.CREATED]: "created",
  [ApiKeyOrder.NAME]: "name",
  [ApiKeyOrder.REQUESTS]: "requests",
  [ApiKeyOrder.LAST_USED]: "last_used",
  [ApiKeyOrder.EXPIRES]: "expires",
};

/** Undefined: unspecified. Throws `invalid_argument`, as the others do, for what is none. */
export function storedType(type: ApiKeyType): StoredType | undefined {
  const stored = types[type];
  if (stored === undefined && type !== ApiKeyType.UNSPECIFIED) {
    throw invalid(`type ${type} is none of ApiKeyType`);
  }
  return stored;
}

/** Undefined: unspecified. */
export function storedStatus(status: ApiKeyStatus): StoredStatus | undefined {
  const stored = statuses[status];
  if (stored === undefined && status !== ApiKeyStatus.UNSPECIFIED) {
    throw invalid(`status ${status} is none of ApiKeyStatus`);
  }
  return stored;
}

/** Undefined: unspecified. */
export function sortOrder(order: ApiKeyOrder): SortOrder | undefined {
  const sorted = orders[order];
  if (sorted === undefined && order !== ApiKeyOrder.UNSPECIFIED) {
    throw invalid(`order ${order} is none of ApiKeyOrder`);
  }
  return sorted;
}

export function storedReason(reason: RevocationReason): StoredReason {
  const stored = reasons[reason];
  if (stored === undefined) throw invalid(`reason ${reason} is none of RevocationReason`);
  return stored;
}

/** The message of a key, its status that of a given time. */
export function toMessage(key: ApiKeyRecord, now: Date): MessageInitShape<typeof ApiKeySchema> {
  return {
    id: key.id,
    userId: key.userId,
    username: key.username,
    name: key.name,
    description: key.description,
    type: keyOf(types, key.type),
    start: key.start,
    status: keyOf(statuses, statusOf(key, now)),
    createdBy: key.createdBy ?? 0n,
    createdAt: timestampFromDate(key.createdAt),
    updatedAt: timestampFromDate(key.updatedAt),
    requestCount: key.requestCount,
    allowedMethods: key.allowedMethods,
    allowedAddresses: key.allowedAddresses,
    revocationReason: key.revocationReason === null ? 0 : keyOf(reasons, key.revocationReason),
    revocationNote: key.revocationNote ?? "",
    rotatedFrom: key.rotatedFrom ?? "",
    rotatedTo: key.rotatedTo ?? "",
    imported: key.imported,
    canVerify: key.canVerify,
    ...(key.expiresAt && { expiresAt: timestampFromDate(key.expiresAt) }),
    ...(key.revokedAt && { revokedAt: timestampFromDate(key.revokedAt) }),
    ...(key.lastUsedAt && { lastUsedAt: timestampFromDate(key.lastUsedAt) }),
  };
}

/** The enum value that stands for a stored word. */
function keyOf<V extends string>(words: Readonly<Partial<Record<number, V>>>, word: V): number {
  return Number(Object.entries(words).find(([, stored]) => stored === word)?.[0] ?? 0);
}
