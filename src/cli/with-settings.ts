/** Work on the settings of a server, whose failure is put in words by those very settings. */
import type { Config } from "../config.ts";
import { Failure } from "./failure.ts";
import { UsageError } from "./usage-error.ts";

/** Does work with settings. What the environment says of them is not enough: flags stand above it. */
export async function withSettings<T>(config: Config, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UsageError) throw error;
    // Not before there is something to explain: it knows the database's errors.
    const { explain } = await import("./explain.ts");
    throw new Failure(explain(error, config));
  }
}
