/** What a key is restricted to, as requests give it: method patterns and addresses. Each check throws `invalid_argument`. */
import { formatAddressRange, parseAddressRange } from "../auth/address-range.ts";
import { invalid } from "../rpc/validate.ts";

const maxItems = 100;
const maxPatternLength = 500;
const name = "[A-Za-z_][A-Za-z0-9_]*";
const pattern = new RegExp(`^(\\*|${name}(\\.${name})*(\\.\\*|/\\*|/${name}))$`);

/**
 * Method patterns, each of a form that `matchesAny` knows, without those that are
 * there twice. The message names the one that is none by its index.
 */
export function checkMethodPatterns(field: string, patterns: readonly string[]): string[] {
  checkCount(field, patterns);
  for (const [i, text] of patterns.entries()) {
    if (text.length > maxPatternLength || !pattern.test(text)) {
      throw invalid(
        `${field}[${i}] must be a method like api.users.UserService/GetUser, a service like ` +
          `api.users.UserService/*, a package like api.users.*, or *, of at most ${maxPatternLength} characters`,
      );
    }
  }
  return [...new Set(patterns)];
}

/** Addresses in the form that is stored, without those that are there twice. */
export function checkAddresses(field: string, addresses: readonly string[]): string[] {
  checkCount(field, addresses);
  const ranges = addresses.map((text, i) => {
    const range = parseAddressRange(text);
    if (range === undefined) {
      throw invalid(
        `${field}[${i}] must be an IP address or a CIDR block like 203.0.113.0/24 or 2001:db8::/32`,
      );
    }
    return formatAddressRange(range);
  });
  return [...new Set(ranges)];
}

function checkCount(field: string, values: readonly string[]): void {
  if (values.length > maxItems) {
    throw invalid(`${field} must have at most ${maxItems} entries, not ${values.length}`);
  }
}
