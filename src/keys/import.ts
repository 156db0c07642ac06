/** `latchkey.v1.ApiKeyService`, its import: keys of another system by the hashes of their tokens. */
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { formatAddressRange, parseAddressRange, rangeCovers } from "../auth/address-range.ts";
import { requireStaff } from "../auth/principal.ts";
import { hashToken } from "../auth/token.ts";
import type { ApiKeyService, ImportedApiKey } from "../gen/latchkey/v1/api_key_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { checkText, checkTime, checkUserId, invalid } from "../rpc/validate.ts";
import type { ImportStore, KeyToImport } from "./import-store.ts";
import { storedType, toMessage } from "./service.ts";
import { type ApiKeyRecord, type ApiKeyStore, UserDisabledError, UserNotFoundError } from "./store.ts";

export interface ImportOptions {
  imports: ImportStore;
  keys: Pick<ApiKeyStore, "get">;
  /** Default: the wall clock. */
  now?: () => Date;
}

const mostKeys = 1000;
const mostEntries = 100;
const mostPatternLength = 512;

/** Creates the method that imports. Everything is checked before anything is written. */
export function createImport(
  options: ImportOptions,
): Pick<ServiceImpl<typeof ApiKeyService>, "importApiKeys"> {
  const now = options.now ?? (() => new Date());

  return {
    async importApiKeys({ apiKeys }, context) {
      // Beside the proto's declaration: a key outlives a time with authentication switched off.
      const principal = requireStaff(context);
      if (apiKeys.length > mostKeys) {
        throw invalid(`api_keys must have at most ${mostKeys} items, not ${apiKeys.length}: send several`);
      }
      const at = now();
      const keys = apiKeys.map((key, i) => readKey(key, `api_keys[${i}]`, at));
      checkDistinct(keys);
      if (principal.apiKeyId !== undefined) {
        // A key passes on no more than it has.
        const own = await options.keys.get(principal.apiKeyId);
        keys.forEach((key, i) => {
          if (own === undefined || !liesWithin(own, key)) {
            throw new ConnectError(
              `api_keys[${i}] would have more than your own key: name only methods, addresses and an expiry within its own`,
              Code.PermissionDenied,
            );
          }
        });
      }
      try {
        const results = await options.imports.importAll(keys, actorOf(context));
        return {
          results: results.map(({ key, created }) => ({ apiKey: toMessage(key, at), created })),
          createdCount: results.filter(({ created }) => created).length,
        };
      } catch (error) {
        if (error instanceof UserNotFoundError) throw new ConnectError(error.message, Code.NotFound);
        if (error instanceof UserDisabledError)
          throw new ConnectError(error.message, Code.FailedPrecondition);
        throw error;
      }
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
    allowedMethods: readMethods(`${at}.allowed_methods`, key.allowedMethods),
    allowedAddresses: readAddresses(`${at}.allowed_addresses`, key.allowedAddresses),
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

function readMethods(field: string, patterns: readonly string[]): string[] {
  checkNumber(field, patterns);
  patterns.forEach((pattern, i) => {
    if (
      pattern.length > mostPatternLength ||
      !/^(\*|([a-z_]\w*\.)+\*|([a-z_]\w*\.)*[a-z_]\w*\/(\*|[a-z_]\w*))$/i.test(pattern)
    ) {
      throw invalid(
        `${field}[${i}] must be like api.users.UserService/GetUser, api.users.UserService/*, api.users.* or *`,
      );
    }
  });
  return [...patterns];
}

function readAddresses(field: string, ranges: readonly string[]): string[] {
  checkNumber(field, ranges);
  return ranges.map((text, i) => {
    const range = parseAddressRange(text);
    if (range === undefined) {
      throw invalid(`${field}[${i}] must be an IP address or a block of them like 203.0.113.0/24`);
    }
    return formatAddressRange(range);
  });
}

function checkNumber(field: string, entries: readonly string[]): void {
  if (entries.length > mostEntries) {
    throw invalid(`${field} must have at most ${mostEntries} items, not ${entries.length}`);
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

/** Whether a key lies within what another may do. */
function liesWithin(
  own: Pick<ApiKeyRecord, "allowedMethods" | "allowedAddresses" | "expiresAt">,
  key: KeyToImport,
): boolean {
  const within = <T>(outer: readonly T[], inner: readonly T[], covers: (outer: T, inner: T) => boolean) =>
    outer.length === 0 ||
    (inner.length > 0 && inner.every((one) => outer.some((other) => covers(other, one))));
  const ranges = (texts: readonly string[]) => texts.flatMap((text) => parseAddressRange(text) ?? []);
  return (
    within(own.allowedMethods, key.allowedMethods, patternCovers) &&
    within(ranges(own.allowedAddresses), ranges(key.allowedAddresses), rangeCovers) &&
    (own.expiresAt === null || (key.expiresAt !== null && key.expiresAt <= own.expiresAt))
  );
}

function patternCovers(outer: string, inner: string): boolean {
  if (outer === "*" || outer === inner) return true;
  return outer.endsWith("*") && inner.startsWith(outer.slice(0, -1));
}
