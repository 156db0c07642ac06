/** A database that is too old. In a file of its own: programs import it, and with it nothing of Drizzle's. */

/** The message says how old, and what is needed. */
export class PostgresTooOldError extends Error {
  /** "PostgresTooOldError". */
  override name = "PostgresTooOldError";
}
