/** Codes by their names, as Connect spells them. */
import type { Code } from "@connectrpc/connect";
import { codeFromString, codeToString } from "@connectrpc/connect/protocol-connect";
import { invalid } from "./validate.ts";

/** The number (google.rpc.Code) of a code like "ok" or "not_found". Throws `invalid_argument` for another. */
export function readCode(name: string): number {
  if (name === "ok") return 0;
  const code: unknown = codeFromString(name);
  // Connect looks names up in a plain object, which has a "constructor" too.
  if (typeof code !== "number") {
    throw invalid(`code ${JSON.stringify(name.slice(0, 50))} is unknown: ok, or one like not_found`);
  }
  return code;
}

/** The name of a code's number. */
export function codeName(code: number): string {
  return code === 0 ? "ok" : codeToString(code as Code);
}
