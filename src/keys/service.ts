/** `latchkey.v1.ApiKeyService`. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type Principal, requireStaff, requireUser } from "../auth/principal.ts";
import { createToken, hashToken, tokenStart } from "../auth/token.ts";
import {
  type ApiKeySchema,
  type ApiKeyService,
  ApiKeyStatus,
  ApiKeyType,
  ListApiKeysRequestSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { readPage } from "../rpc/page.ts";
import { checkText, checkTime, checkUserId, checkUuid, invalid } from "../rpc/validate.ts";
import { visibleUser } from "../rpc/visible-user.ts";
import {
  type ApiKeyRecord,
  type ApiKeyStore,
  type ApiKeyStatus as StoredStatus,
  type ApiKeyType as StoredType,
  statusOf,
  UserDisabledError,
  UserNotFoundError,
} from "./store.ts";

const pageSizes = { fallback: 50, most: 500 };

const types: Readonly<Partial<Record<ApiKeyType, StoredType>>> = {
  [ApiKeyType.SERVICE]: "service",
  [ApiKeyType.CLI]: "cli",
  [ApiKeyType.WEBHOOK]: "webhook",
  [ApiKeyType.INTERNAL]: "internal",
  [ApiKeyType.DEVELOPMENT]: "development",
};

const statuses: Readonly<Partial<Record<ApiKeyStatus, StoredStatus>>> = {
  [ApiKeyStatus.ACTIVE]: "active",
  [ApiKeyStatus.EXPIRED]: "expired",
  [ApiKeyStatus.REVOKED]: "revoked",
};

export interface ApiKeyServiceOptions {
  keys: ApiKeyStore;
  tokenPrefix: string;
  /** Default: the wall clock. */
  now?: () => Date;
}

export function createApiKeyService(
  options: ApiKeyServiceOptions,
): Partial<ServiceImpl<typeof ApiKeyService>> {
  const { keys, tokenPrefix } = options;
  const now = options.now ?? (() => new Date());

  /** A key that the principal may see. Another's is answered as if it were not there. */
  async function visible(id: string, principal: Principal): Promise<ApiKeyRecord> {
    const key = await keys.get(checkUuid("id", id));
    if (key === undefined || !(principal.isStaff || key.userId === principal.userId)) throw notFound(id);
    return key;
  }

  return {
    async createApiKey(request, context) {
      // Beside the proto's declaration: a key outlives a time with authentication switched off.
      requireStaff(context);
      const token = createToken(tokenPrefix);
      const expiresAt = request.expiresAt === undefined ? null : checkTime("expires_at", request.expiresAt);
      if (expiresAt !== null && expiresAt <= now()) {
        throw invalid("expires_at must be in the future; leave it out for a key that never expires");
      }
      try {
        const key = await keys.create(
          {
            userId: checkUserId("user_id", request.userId),
            name: checkText("name", request.name, 100, 1),
            description: checkText("description", request.description, 1000),
            type: storedType(request.type) ?? "service",
            hash: hashToken(token),
            start: tokenStart(token, tokenPrefix),
            expiresAt,
          },
          actorOf(context),
        );
        return { apiKey: toMessage(key, now()), token };
      } catch (error) {
        if (error instanceof UserNotFoundError) throw new ConnectError(error.message, Code.NotFound);
        if (error instanceof UserDisabledError) {
          throw new ConnectError(error.message, Code.FailedPrecondition);
        }
        throw error;
      }
    },

    async getApiKey({ id }, context) {
      return { apiKey: toMessage(await visible(id, requireUser(context)), now()) };
    },

    async listApiKeys(request, context) {
      const principal = requireUser(context);
      const page = readPage(ListApiKeysRequestSchema, request, pageSizes);
      const [before] = page.cursor ?? [];
      const rows = await keys.list(
        {
          userId: visibleUser(request.userId, principal),
          type: storedType(request.type),
          status: storedStatus(request.status),
        },
        page.size + 1,
        before === undefined ? undefined : checkUuid("page_token", before),
      );
      const shown = rows.slice(0, page.size);
      const last = shown.at(-1);
      return {
        apiKeys: shown.map((key) => toMessage(key, now())),
        nextPageToken: rows.length > page.size && last !== undefined ? page.tokenAfter(last.id) : "",
      };
    },

    async revokeApiKey({ id }, context) {
      const key = await visible(id, requireUser(context));
      const revoked = await keys.revoke(key.id, actorOf(context));
      if (revoked === undefined) throw notFound(id);
      return { apiKey: toMessage(revoked, now()) };
    },
  };
}

export function storedType(type: ApiKeyType): StoredType | undefined {
  const stored = types[type];
  if (stored === undefined && type !== ApiKeyType.UNSPECIFIED) {
    throw invalid(`type ${type} is none of ApiKeyType`);
  }
  return stored;
}

function storedStatus(status: ApiKeyStatus): StoredStatus | undefined {
  const stored = statuses[status];
  if (stored === undefined && status !== ApiKeyStatus.UNSPECIFIED) {
    throw invalid(`status ${status} is none of ApiKeyStatus`);
  }
  return stored;
}

export function toMessage(key: ApiKeyRecord, now: Date): MessageInitShape<typeof ApiKeySchema> {
  const optional = {
    ...(key.expiresAt && { expiresAt: timestampFromDate(key.expiresAt) }),
    ...(key.revokedAt && { revokedAt: timestampFromDate(key.revokedAt) }),
    ...(key.lastUsedAt && { lastUsedAt: timestampFromDate(key.lastUsedAt) }),
  };
  return {
    id: key.id,
    userId: key.userId,
    name: key.name,
    description: key.description,
    type: keyOf(types, key.type),
    start: key.start,
    status: keyOf(statuses, statusOf(key, now)),
    createdBy: key.createdBy ?? 0n,
    createdAt: timestampFromDate(key.createdAt),
    requestCount: key.requestCount,
    ...optional,
  };
}

/** The enum value that stands for a stored word. */
function keyOf<V extends string>(words: Readonly<Partial<Record<number, V>>>, word: V): number {
  return Number(Object.entries(words).find(([, stored]) => stored === word)?.[0] ?? 0);
}

function notFound(id: string): ConnectError {
  return new ConnectError(`API key ${id} not found`, Code.NotFound);
}
