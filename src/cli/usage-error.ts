/** A command that was given wrongly. Its message says what is wrong and what to do; the process exits with 2. */
export class UsageError extends Error {
  override name = "UsageError";
}
