/** How much a key can do, and whether that is more than another can. Pure. */
import { type AddressRange, formatAddressRange, rangeCovers } from "../auth/address-range.ts";

/** What a key can do, where and how long. */
export interface Scope {
  /** Method patterns, see `matchesAny`; empty: every method. */
  readonly methods: readonly string[];
  /** Empty: from anywhere. */
  readonly addresses: readonly AddressRange[];
  /** Null: never. */
  readonly expiresAt: Date | null;
  /** May ask for verdicts on other keys. */
  readonly canVerify: boolean;
}

/** The scope that every other lies within. */
export const unlimited: Scope = { methods: [], addresses: [], expiresAt: null, canVerify: true };

/**
 * Says which part of a scope goes beyond a limit, in words that begin with the
 * field's name and speak to the owner of the limit; undefined: none does.
 *
 * Undefined implies that whatever the scope allows the limit allows. The reverse
 * does not hold: blocks and patterns are compared one by one, so two blocks that
 * make up a third together do not cover it.
 */
export function excessOf(wanted: Scope, limit: Scope): string | undefined {
  return (
    methodExcess(wanted.methods, limit.methods) ??
    addressExcess(wanted.addresses, limit.addresses) ??
    expiryExcess(wanted.expiresAt, limit.expiresAt) ??
    (wanted.canVerify && !limit.canVerify ? "can_verify: your API key may not verify keys itself" : undefined)
  );
}

/** Whether patterns cover all that one pattern covers. */
export function coversPattern(patterns: readonly string[], inner: string): boolean {
  return patterns.some((outer) => {
    if (outer === "*" || outer === inner) return true;
    if (outer.endsWith("/*")) return methodOf(inner, outer.slice(0, -1));
    // "a.*" covers what begins with "a.": packages below, services and their methods. Not "*".
    return outer.endsWith(".*") && inner.startsWith(outer.slice(0, -1));
  });
}

/** Whether a pattern is one method of a service, given as "pkg.Service/". */
function methodOf(pattern: string, service: string): boolean {
  return pattern.startsWith(service) && !pattern.slice(service.length).includes("/");
}

function methodExcess(wanted: readonly string[], limit: readonly string[]): string | undefined {
  if (limit.length === 0 || limit.includes("*")) return undefined;
  // An empty list is every method: never narrower than one that names some.
  if (wanted.length === 0) return "allowed_methods: none means every method, which your API key may not call";
  const beyond = wanted.find((pattern) => !coversPattern(limit, pattern));
  return beyond === undefined ? undefined : `allowed_methods: ${beyond} is more than your API key may call`;
}

function addressExcess(wanted: readonly AddressRange[], limit: readonly AddressRange[]): string | undefined {
  if (limit.length === 0) return undefined;
  if (wanted.length === 0) {
    return "allowed_addresses: none means from anywhere, where your API key may not be used";
  }
  const beyond = wanted.find((inner) => !limit.some((outer) => rangeCovers(outer, inner)));
  return beyond === undefined
    ? undefined
    : `allowed_addresses: your API key may not be used from all of ${formatAddressRange(beyond)}`;
}

function expiryExcess(wanted: Date | null, limit: Date | null): string | undefined {
  if (limit === null || (wanted !== null && wanted <= limit)) return undefined;
  return `expires_at: your API key ends at ${limit.toISOString()}, and so must this one, or before`;
}
