/** `latchkey.v1.ApiKeyService`: the life of a key. */
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type Principal, requireUser } from "../auth/principal.ts";
import { createToken, hashToken, tokenStart } from "../auth/token.ts";
import {
  type ApiKeyService,
  CreateApiKeyRequestSchema,
  ListApiKeysRequestSchema,
  type RevocationReason,
  RotateApiKeyRequestSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { readPage } from "../rpc/page.ts";
import { type RequestIdentity, readRequestId } from "../rpc/request-id.ts";
import { checkText, checkUserId, checkUuid, invalid } from "../rpc/validate.ts";
import { visibleUser } from "../rpc/visible-user.ts";
import type { ApiKeyChanges, Revocation } from "./changes.ts";
import type { OnceOnly } from "./idempotency.ts";
import { orderOf } from "./list.ts";
import { storedReason, toMessage } from "./message.ts";
import type { ApiKeyRecord } from "./record.ts";
import { telling } from "./refused.ts";
import {
  checkFuture,
  readCounted,
  readCursor,
  readFilter,
  readGrace,
  readNewKey,
  readUpdate,
} from "./request.ts";
import type { ApiKeyStore } from "./store.ts";

const pageSizes = { fallback: 50, most: 500 };
const maxNoteLength = 1000;
const mostIds = 500;

export interface ApiKeyServiceOptions {
  keys: ApiKeyStore;
  changes: ApiKeyChanges;
  tokenPrefix: string;
  /** Default: the wall clock. */
  now?: () => Date;
}

/** The methods that `requireUser` begins do not rest on the proto's declaration: a key outlives a time with authentication off. */
export function createApiKeyService(
  options: ApiKeyServiceOptions,
): Partial<ServiceImpl<typeof ApiKeyService>> {
  const { keys, changes, tokenPrefix } = options;
  const now = options.now ?? (() => new Date());

  /** A key that the principal may see. Another's is answered as if it were not there. */
  async function visible(field: string, id: string, principal: Principal): Promise<ApiKeyRecord> {
    const key = await keys.get(checkUuid(field, id));
    if (key === undefined || !(principal.isStaff || key.userId === principal.userId)) throw notFound(id);
    return key;
  }

  function newToken() {
    const token = createToken(tokenPrefix);
    return { token, hash: hashToken(token), start: tokenStart(token, tokenPrefix) };
  }

  return {
    async createApiKey(request, context) {
      const principal = requireUser(context);
      const once = onceFor(principal, readRequestId(CreateApiKeyRequestSchema, request));
      const wanted = readNewKey(request);
      requireOwn(wanted.userId, principal, "make keys of");
      if (wanted.canVerify && !principal.isStaff) throw denied("can_verify: only staff may set it");
      const { token, ...hashed } = newToken();
      const { key, madeAt } = await telling(
        changes.create({ ...wanted, ...hashed }, actorOf(context), once, () =>
          checkFuture(wanted.expiresAt, now()),
        ),
      );
      return { apiKey: toMessage(key, now()), ...shownToken(token, madeAt) };
    },

    async getApiKey({ id }, context) {
      return { apiKey: toMessage(await visible("id", id, requireUser(context)), now()) };
    },

    async batchGetApiKeys({ ids }, context) {
      const { isStaff, userId } = requireUser(context);
      const found = await keys.getAll(readIds(ids));
      const visible = found.filter((key) => isStaff || key.userId === userId);
      return { apiKeys: visible.map((key) => toMessage(key, now())) };
    },

    async countApiKeys(request, context) {
      const userId = visibleUser(request.userId, requireUser(context));
      return keys.count({ ...readCounted(request), userId });
    },

    async listApiKeys(request, context) {
      const principal = requireUser(context);
      const page = readPage(ListApiKeysRequestSchema, request, pageSizes);
      const filter = { ...readFilter(request), userId: visibleUser(request.userId, principal) };
      const after = page.cursor && readCursor(orderOf(filter).by, page.cursor);
      const rows = await keys.list(filter, page.size + 1, after);
      const shown = rows.slice(0, page.size);
      const last = shown.at(-1);
      return {
        apiKeys: shown.map(({ key }) => toMessage(key, now())),
        nextPageToken: rows.length > page.size && last !== undefined ? page.tokenAfter(...last.cursor) : "",
      };
    },

    async updateApiKey(request, context) {
      const principal = requireUser(context);
      const { id, fields } = readUpdate(request, now());
      await visible("api_key.id", id, principal);
      const key = await telling(changes.update(id, fields, actorOf(context), principal.isStaff));
      if (key === undefined) throw notFound(id);
      return { apiKey: toMessage(key, now()) };
    },

    async rotateApiKey(request, context) {
      const principal = requireUser(context);
      const once = onceFor(principal, readRequestId(RotateApiKeyRequestSchema, request));
      const graceMs = readGrace(request.grace);
      const { id } = await visible("id", request.id, principal);
      const { token, ...hashed } = newToken();
      const rotated = await telling(
        changes.rotate(id, { ...hashed, graceMs, now: now() }, actorOf(context), once),
      );
      if (rotated === undefined) throw notFound(id);
      return {
        apiKey: toMessage(rotated.key, now()),
        rotatedFrom: toMessage(rotated.rotatedFrom, now()),
        ...shownToken(token, rotated.madeAt),
      };
    },

    async revokeApiKey(request, context) {
      const principal = requireUser(context);
      const revocation = readRevocation(request);
      const { id } = await visible("id", request.id, principal);
      const revoked = await changes.revoke(id, revocation, actorOf(context));
      if (revoked === undefined) throw notFound(id);
      return { apiKey: toMessage(revoked, now()) };
    },

    async batchRevokeApiKeys(request, context) {
      const principal = requireUser(context);
      const ids = readIds(request.ids);
      if (ids.length === 0) throw invalid("ids must name at least one key");
      const ownedBy = principal.isStaff ? undefined : principal.userId;
      const revokedCount = await changes.revokeMany(ids, readRevocation(request), actorOf(context), ownedBy);
      if (revokedCount === undefined) {
        throw new ConnectError("one of these API keys was not found: none was revoked", Code.NotFound);
      }
      return { revokedCount };
    },

    async revokeAllApiKeys(request, context) {
      const principal = requireUser(context);
      const userId = checkUserId("user_id", request.userId);
      const revocation = readRevocation(request);
      requireOwn(userId, principal, "revoke the keys of");
      const keep = request.keepOwn ? principal.apiKeyId : undefined;
      const revokedCount = await telling(changes.revokeAll(userId, revocation, actorOf(context), keep));
      return { revokedCount };
    },
  };
}

function readIds(ids: readonly string[]): string[] {
  if (ids.length > mostIds) throw invalid(`ids must name at most ${mostIds} keys, not ${ids.length}`);
  return ids.map((id, i) => checkUuid(`ids[${i}]`, id));
}

function requireOwn(userId: bigint, principal: Principal, what: string): void {
  if (!principal.isStaff && userId !== principal.userId) {
    throw denied(`only staff may ${what} user ${userId}`);
  }
}

function onceFor(principal: Principal, identity: RequestIdentity | undefined): OnceOnly | undefined {
  return identity && { ...identity, userId: principal.userId };
}

function readRevocation(request: { reason: RevocationReason; note: string }): Revocation {
  return { reason: storedReason(request.reason), note: checkText("note", request.note, maxNoteLength) };
}

/** The token of a new key, or why there is none to show. */
function shownToken(token: string, madeAt: Date | undefined) {
  if (madeAt === undefined) return { token, tokenWithheldReason: "" };
  const tokenWithheldReason =
    `a request with this request_id made the key at ${madeAt.toISOString()}; its token was shown then and is ` +
    "not stored: if it was lost, rotate the key, or make another with a new request_id";
  return { token: "", tokenWithheldReason };
}

function denied(message: string): ConnectError {
  return new ConnectError(message, Code.PermissionDenied);
}

function notFound(id: string): ConnectError {
  return new ConnectError(`API key ${id} not found`, Code.NotFound);
}
