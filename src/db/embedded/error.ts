/** What went wrong with the embedded Postgres and what to do about it; the message is written for the operator. */
export class EmbeddedPostgresError extends Error {
  /** "EmbeddedPostgresError". */
  override readonly name = "EmbeddedPostgresError";
}

/** How every message ends when there is no way to run a server here. */
export const USE_A_SERVER = "set DATABASE_URL to a Postgres server (14 or newer)";

/** The errno code (`ENOENT`, `EACCES`, …) or SQLSTATE that an error carries, else "". */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error) || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

/** Runs `step`; `fallback` is its result where it fails with one of `codes`. */
export async function unless<T, F>(
  codes: readonly string[],
  step: () => Promise<T>,
  fallback: F,
): Promise<T | F> {
  try {
    return await step();
  } catch (error) {
    if (codes.includes(errorCode(error))) return fallback;
    throw error;
  }
}
