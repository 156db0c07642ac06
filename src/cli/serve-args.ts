/** What `latchkey serve` takes on its command line. */
import { parseArgs } from "node:util";
import { ConfigError, workerCount } from "../config.ts";
import { UsageError } from "./usage-error.ts";

/** Reads the arguments: each stands above the setting of its name. Throws a {@link UsageError} that ends with `help`. */
export function readServeArgs(args: string[], help: string): Record<string, string> {
  try {
    const { values } = parseArgs({ args, options: { workers: { type: "string" } } });
    if (values.workers === undefined) return {};
    workerCount(values.workers);
    return { LATCHKEY_WORKERS: values.workers };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${error instanceof ConfigError ? `--workers ${message}` : message}\n\n${help}`);
  }
}
