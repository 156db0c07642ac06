/** Matches every token of a prefix, as README publishes it for "lk" for secret scanners. */
export function tokenPattern(prefix: string): RegExp {
  return new RegExp(`\\b${prefix}_[0-9A-Za-z]{38}\\b`);
}
