/** Which version this is. */
import { readFileSync } from "node:fs";

const manifest = readFileSync(new URL("../package.json", import.meta.url), "utf8");

/** The version of this package. src and dist lie equally deep in it. */
export const packageVersion: string = JSON.parse(manifest).version;
