/** `latchkey keys list` and `show`. */
import { type Command, Option } from "commander";
import {
  ApiKeySchema,
  ApiKeyService,
  ApiKeyStatusSchema,
  ApiKeyTypeSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import type { Cli } from "./command.ts";
import { idArgument, type OneOptions, typeOption } from "./key-fields.ts";
import { keyColumns, printKey } from "./key-output.ts";
import { jsonOption, type ListOptions, printList, withListOptions } from "./list.ts";
import { findUserIdOrAny } from "./named-user.ts";
import { enumTexts, enumValue } from "./output.ts";
import { connectRemote, createRemoteCommand } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { parseDuration } from "./times.ts";

interface KeysListOptions extends RemoteOptions, ListOptions {
  readonly user?: string;
  readonly type?: string;
  readonly status?: string;
  readonly unusedFor?: number;
  readonly expiresWithin?: number;
  readonly search?: string;
}

export function keysList(cli: Cli): Command {
  const command = createRemoteCommand(
    "list",
    "List keys, the newest first: all for staff, one's own for others.",
    [
      "latchkey keys list",
      "latchkey keys list --status active --unused-for 30d",
      "latchkey keys list --limit 0 --json",
    ],
  )
    .option("--user <user>", "id or username: only keys of this user")
    .addOption(typeOption())
    .addOption(new Option("--status <status>").choices(enumTexts(ApiKeyStatusSchema)))
    .addOption(
      new Option("--unused-for <duration>", "not used for so many days, the longest unused first").argParser(
        parseDuration,
      ),
    )
    .addOption(
      new Option(
        "--expires-within <duration>",
        "that expire within so many days, the soonest first",
      ).argParser(parseDuration),
    )
    .option("--search <text>", "whose name, description or start contains this");
  return withListOptions(command).action(async (options: KeysListOptions) => {
    const remote = await connectRemote(cli, options);
    const keys = remote.client(ApiKeyService);
    const userId = await remote.call("looking the user up", () => findUserIdOrAny(remote, options.user));
    await printList(cli, options, {
      schema: ApiKeySchema,
      columns: keyColumns,
      mostOfPage: 500,
      read: async (pageSize, pageToken) => {
        const page = await remote.call("reading keys", () =>
          keys.listApiKeys({
            userId,
            type: enumValue(ApiKeyTypeSchema, options.type),
            status: enumValue(ApiKeyStatusSchema, options.status),
            unusedForDays: wholeDays(options.unusedFor),
            expiresWithinDays: wholeDays(options.expiresWithin),
            search: options.search ?? "",
            pageSize,
            pageToken,
          }),
        );
        return { rows: page.apiKeys, nextPageToken: page.nextPageToken };
      },
    });
  });
}

/** At least one: 0 would stand for any. */
function wholeDays(ms: number | undefined): number {
  return ms === undefined ? 0 : Math.max(1, Math.round(ms / 86_400_000));
}

export function keysShow(cli: Cli): Command {
  return createRemoteCommand("show", "Show all of a key but its token, which nobody has.", [
    'latchkey keys show "$KEY_ID"',
  ])
    .argument(...idArgument)
    .addOption(jsonOption())
    .action(async (id: string, options: OneOptions) => {
      const remote = await connectRemote(cli, options);
      const { apiKey } = await remote.call("reading the key", () =>
        remote.client(ApiKeyService).getApiKey({ id }),
      );
      await printKey(cli, options, apiKey);
    });
}
