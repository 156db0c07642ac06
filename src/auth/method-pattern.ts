/** The patterns that an API key's allowed methods are written in. */

/**
 * Whether any pattern covers a method: `api.users.UserService/GetUser` covers
 * itself, `api.users.UserService/*` its service, `api.users.*` all services whose
 * name begins with `api.users.`, and `*` everything. A pattern of another form
 * covers nothing.
 */
export function matchesAny(patterns: readonly string[], service: string, method: string): boolean {
  return patterns.some((pattern) => matches(pattern, service, method));
}

function matches(pattern: string, service: string, method: string): boolean {
  if (pattern === "*") return true;
  if (pattern.endsWith("/*")) return pattern.slice(0, -2) === service;
  if (pattern.endsWith(".*")) return service.startsWith(pattern.slice(0, -1));
  return pattern === `${service}/${method}`;
}
