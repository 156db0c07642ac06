/** `latchkey.v1.ApiKeyService`, its import: keys of another system by the hashes of their tokens. */
import type { ServiceImpl } from "@connectrpc/connect";
import { requireStaff } from "../auth/principal.ts";
import { hashToken } from "../auth/token.ts";
import type { ApiKeyService, ImportedApiKey } from "../gen/latchkey/v1/api_key_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { checkText, checkTime, checkUserId, invalid } from "../rpc/validate.ts";
import type { ImportStore, KeyToImport } from "./import-store.ts";
import { storedType, toMessage } from "./message.ts";
import { telling } from "./refused.ts";
import { checkAddresses, checkMethodPatterns } from "./restrictions.ts";

export interface ImportOptions {
  imports: ImportStore;
  /** Default: the wall clock. */
  now?: () => Date;
}

const mostKeys = 1000;

/** Creates the method that imports. Everything is checked before anything is written. */
export function createImport(
  options: ImportOptions,
): Pick<ServiceImpl<typeof ApiKeyService>, "importApiKeys"> {
  const now = options.now ?? (() => new Date());

  return {
    async importApiKeys({ apiKeys }, context) {
      // Beside the proto's declaration: a key outlives a time with authentication switched off.
      requireStaff(context);
      if (apiKeys.length > mostKeys) {
        throw invalid(`api_keys must have at most ${mostKeys} items, not ${apiKeys.length}: send several`);
      }
      const at = now();
      const keys = apiKeys.map((key, i) => readKey(key, `api_keys[${i}]`, at));
      checkDistinct(keys);
      const results = await telling(options.imports.importAll(keys, actorOf(context)));
      return {
        results: results.map(({ key, created }) => ({ apiKey: toMessage(key, at), created })),
        createdCount: results.filter(({ created }) => created).length,
      };
    },
  };
}

function readKey(key: ImportedApiKey, at: string, now: Date): KeyToImport {
  const past = (field: string, time: typeof key.createdAt) => {
    if (time === undefined) return undefined;
    const date = checkTime(field, time);
    if (date > now) throw invalid(`${field} must not be in the future`);
    if (date.getTime() < 0) throw invalid(`${field} must not be before 1970`);
    return date;
  };
  const hash = readHash(`${at}.hash`, key.hash);
  return {
    userId: checkUserId(`${at}.user_id`, key.userId),
    name: checkText(`${at}.name`, key.name, 100, 1),
    description: checkText(`${at}.description`, key.description, 1000),
    type: readType(`${at}.type`, key.type),
    hash,
    start: readStart(`${at}.start`, key.start, hash),
    allowedMethods: checkMethodPatterns(`${at}.allowed_methods`, key.allowedMethods),
    allowedAddresses: checkAddresses(`${at}.allowed_addresses`, key.allowedAddresses),
    expiresAt: key.expiresAt === undefined ? null : checkTime(`${at}.expires_at`, key.expiresAt),
    createdAt: past(`${at}.created_at`, key.createdAt) ?? now,
    lastUsedAt: past(`${at}.last_used_at`, key.lastUsedAt) ?? null,
  };
}

/** SHA-256 in hexadecimal, base64 or base64url, as base64. Says nothing of what was sent: it may be the token itself. */
function readHash(field: string, text: string): string {
  let bytes: Buffer | undefined;
  if (/^[0-9a-f]{64}$/i.test(text)) bytes = Buffer.from(text, "hex");
  else if (/^([A-Za-z0-9+/]{43}|[A-Za-z0-9_-]{43})=?$/.test(text)) bytes = Buffer.from(text, "base64");
  // The last of 43 characters has two bits too many; were they set, this would be no encoding of 32 bytes.
  const encoded = bytes?.toString("base64url");
  if (bytes === undefined || (text.length !== 64 && encoded !== toBase64Url(text))) {
    throw invalid(
      `${field} must be the SHA-256 of a token: 64 hexadecimal digits, or 43 characters of base64 or base64url`,
    );
  }
  return bytes.toString("base64");
}

function toBase64Url(text: string): string {
  return text.replace(/=$/, "").replaceAll("+", "-").replaceAll("/", "_");
}

function readStart(field: string, start: string, hash: string): string {
  if (!/^[\x21-\x7e]{0,16}$/.test(start)) {
    throw invalid(`${field} must have at most 16 characters, all of them visible ASCII`);
  }
  if (hashToken(start) === hash) throw invalid(`${field} must not be the whole token: it is shown`);
  return start;
}

function readType(field: string, type: ImportedApiKey["type"]): KeyToImport["type"] {
  try {
    return storedType(type) ?? "service";
  } catch {
    throw invalid(`${field} ${type} is none of ApiKeyType`);
  }
}

function checkDistinct(keys: readonly KeyToImport[]): void {
  const seen = new Map<string, number>();
  keys.forEach(({ hash }, i) => {
    const before = seen.get(hash);
    if (before !== undefined) {
      throw invalid(`api_keys[${before}].hash and api_keys[${i}].hash are the same: send each key once`);
    }
    seen.set(hash, i);
  });
}
