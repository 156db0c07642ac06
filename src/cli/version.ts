/** Which version this is. */
import { readFileSync } from "node:fs";

/** The version of this package. src/cli and dist/cli lie equally deep in it. */
export function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
