/** `latchkey keys revoke`. */
import { create } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import {
  ApiKeySchema,
  ApiKeyService,
  RevocationReasonSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { type Cli, usageError } from "./command.ts";
import type { OneOptions } from "./key-fields.ts";
import { describeKey } from "./key-output.ts";
import { jsonOption } from "./list.ts";
import { findUserId } from "./named-user.ts";
import { enumTexts, enumValue, json } from "./output.ts";
import { connectRemote, createRemoteCommand } from "./remote.ts";

interface RevokeOptions extends OneOptions {
  readonly allOf?: string;
  readonly keepOwn?: true;
  readonly reason?: string;
  readonly note?: string;
  readonly yes?: true;
}

export function keysRevoke(cli: Cli): Command {
  const command = createRemoteCommand(
    "revoke",
    "End keys for good. Every instance refuses them, and their open streams end.",
    [
      'latchkey keys revoke "$KEY_ID" --reason compromised --yes',
      "latchkey keys revoke --all-of 2 --reason user-ended --note 'has left' --yes",
    ],
  )
    .argument("[ids...]", "ids of the keys")
    .option("--all-of <user>", "id or username: every key of this user that is not revoked yet")
    .option("--keep-own", "with --all-of: leave the key that this is done with")
    .addOption(new Option("--reason <reason>", "why").choices(enumTexts(RevocationReasonSchema)))
    .option("--note <text>", "what is to be said about it")
    .option("--yes", "do not ask")
    .addOption(jsonOption("a JSON object for each key; with --all-of, how many there were"));
  return command.action(async (ids: string[], options: RevokeOptions) => {
    if ((ids.length === 0) === (options.allOf === undefined)) {
      throw usageError(command, "give the ids of keys, or --all-of a user");
    }
    if (options.allOf === undefined && options.keepOwn) {
      throw usageError(command, "--keep-own goes with --all-of");
    }
    const remote = await connectRemote(cli, options);
    const reason = {
      reason: enumValue(RevocationReasonSchema, options.reason),
      note: options.note ?? "",
    };
    if (options.allOf !== undefined) return revokeAllOf(options.allOf);
    const keys = remote.client(ApiKeyService);
    const found = await remote.call("reading the keys", () =>
      Promise.all(ids.map(async (id) => (await keys.getApiKey({ id })).apiKey ?? create(ApiKeySchema))),
    );
    const what = found.map(describeKey).join(", ");
    await cli.terminal.confirm(`Revoke ${what} for good?`, options.yes);
    for (const { id } of found) {
      const { apiKey = create(ApiKeySchema) } = await remote.call("revoking the key", () =>
        keys.revokeApiKey({ id, ...reason }),
      );
      if (options.json) await cli.terminal.print(json(ApiKeySchema, apiKey));
      else await cli.terminal.print(`revoked ${apiKey.id}\n`);
    }

    async function revokeAllOf(user: string): Promise<void> {
      const userId = await remote.call("looking the user up", () => findUserId(remote, user));
      const but = options.keepOwn ? " but this one" : "";
      await cli.terminal.confirm(`Revoke every key of user ${user}${but} for good?`, options.yes);
      const { revokedCount } = await remote.call("revoking the keys", () =>
        remote
          .client(ApiKeyService)
          .revokeAllApiKeys({ userId, ...reason, keepOwn: options.keepOwn === true }),
      );
      await cli.terminal.print(
        options.json ? `${JSON.stringify({ revokedCount })}\n` : `revoked ${revokedCount} keys\n`,
      );
    }
  });
}
