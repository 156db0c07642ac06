/** What a key holds, as options of a command. */
import { type Command, Option } from "commander";
import { ApiKeyTypeSchema } from "../gen/latchkey/v1/api_key_service_pb.js";
import { listOption } from "./command.ts";
import { enumTexts, enumValue } from "./output.ts";
import type { RemoteOptions } from "./target.ts";
import { parseExpiry } from "./times.ts";

export interface OneOptions extends RemoteOptions {
  readonly json?: true;
}

export interface FieldOptions extends OneOptions {
  readonly name?: string;
  readonly description?: string;
  readonly type?: string;
  readonly expires?: ReturnType<typeof parseExpiry>;
  readonly allowedMethods?: string[];
  readonly allowedAddresses?: string[];
  readonly canVerify?: boolean;
}

export const idArgument = ["<id>", "the key's id"] as const;
export const typeOption = () =>
  new Option("--type <type>", "what it is for").choices(enumTexts(ApiKeyTypeSchema));

/** Adds the options for what a key holds. */
export function withFields(command: Command): Command {
  return command
    .option("--description <text>", "at most 1,000 characters")
    .addOption(typeOption())
    .addOption(
      new Option("--expires <when>", "90d, 2027-01-01 or never (UTC)").argParser((text) => parseExpiry(text)),
    )
    .addOption(
      listOption(
        "--allowed-methods <patterns>",
        "all that it may call, e.g. api.users.UserService/*; '' for whatever its user may",
      ),
    )
    .addOption(
      listOption(
        "--allowed-addresses <blocks>",
        "where it may be used from, e.g. 203.0.113.0/24; '' for anywhere",
      ),
    )
    .option("--can-verify", "let it ask for verdicts about other keys");
}

/** The fields of a key that options set. */
export function fieldsOf(options: FieldOptions) {
  const { name, description, type, expires, allowedMethods, allowedAddresses, canVerify } = options;
  return {
    ...(name !== undefined && { name }),
    ...(description !== undefined && { description }),
    ...(type !== undefined && { type: enumValue(ApiKeyTypeSchema, type) }),
    ...(expires?.at && { expiresAt: expires.at }),
    ...(allowedMethods && { allowedMethods }),
    ...(allowedAddresses && { allowedAddresses }),
    ...(canVerify !== undefined && { canVerify }),
  };
}
