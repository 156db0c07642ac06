/** `latchkey keys`: API keys through their whole life. */
import type { Command } from "commander";
import { type Cli, createFamily } from "./command.ts";
import { keysCreate, keysRotate, keysUpdate } from "./keys-change.ts";
import { keysImport } from "./keys-import.ts";
import { keysList, keysShow } from "./keys-list.ts";
import { keysRevoke } from "./keys-revoke.ts";
import { keysVerify } from "./keys-verify.ts";

export function keysCommands(cli: Cli): Command {
  return createFamily("keys", "make, change, check and end API keys", [
    keysCreate(cli),
    keysList(cli),
    keysShow(cli),
    keysUpdate(cli),
    keysRotate(cli),
    keysRevoke(cli),
    keysVerify(cli),
    keysImport(cli),
  ]);
}
