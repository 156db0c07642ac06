/** Patterns of allowed methods, as the server reads them; see ApiKey.allowed_methods. */

const name = "[A-Za-z_][A-Za-z0-9_]*";
const shape = new RegExp(`^(?:\\*|${name}(?:\\.${name})*(?:/(?:\\*|${name})|\\.\\*))$`);

/** Whether a text is a pattern: an exact method, SERVICE/*, PACKAGE.* or *. */
export const isPattern = (text: string): boolean => shape.test(text);

/** Whether a pattern takes in a method, given as SERVICE/METHOD, or all of a service, given as SERVICE/*. */
export function covers(pattern: string, method: string): boolean {
  if (pattern === "*" || pattern === method) return true;
  if (pattern.endsWith("/*")) return method.startsWith(pattern.slice(0, -1));
  return pattern.endsWith(".*") && method.startsWith(pattern.slice(0, -1));
}

/** The patterns with one more, without those that it takes in. */
export function withPattern(patterns: readonly string[], added: string): string[] {
  return [...patterns.filter((pattern) => !covers(added, pattern)), added];
}
