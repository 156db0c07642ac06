/** `latchkey keys create`, `update` and `rotate`. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import {
  ApiKeyService,
  CreateApiKeyResponseSchema,
  RotateApiKeyResponseSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { type Cli, usageError } from "./command.ts";
import { type FieldOptions, fieldsOf, idArgument, type OneOptions, withFields } from "./key-fields.ts";
import { describeKey, printKey, printToken } from "./key-output.ts";
import { jsonOption } from "./list.ts";
import { findUserId } from "./named-user.ts";
import { json } from "./output.ts";
import { connectRemote, createRemoteCommand } from "./remote.ts";
import { ownUserId } from "./session.ts";
import { formatTime, parseDuration } from "./times.ts";

interface CreateOptions extends FieldOptions {
  readonly name: string;
  readonly user?: string;
  readonly requestId?: string;
}

export function keysCreate(cli: Cli): Command {
  const command = createRemoteCommand(
    "create",
    "Create a key and print its token, this once and alone: TOKEN=$(latchkey keys create …) keeps it.",
    [
      "latchkey keys create --name laptop",
      "latchkey keys create --user 2 --name invoices --expires 90d --allowed-methods 'api.users.UserService/*'",
    ],
  );
  command.requiredOption("--name <name>", "1 to 100 characters");
  command.option("--user <user>", "id or username of whom it signs in (default: yourself)");
  withFields(command)
    .option("--request-id <id>", "sent again within a day with the same one, makes no second key")
    .addOption(jsonOption("the key and its token as one JSON object"));
  return command.action(async (options: CreateOptions) => {
    const remote = await connectRemote(cli, options);
    const made = await remote.call("creating the key", async () => {
      const userId =
        options.user === undefined ? await ownUserId(remote) : await findUserId(remote, options.user);
      return remote
        .client(ApiKeyService)
        .createApiKey({ ...fieldsOf(options), userId, requestId: options.requestId ?? "" });
    });
    if (options.json) return cli.terminal.print(json(CreateApiKeyResponseSchema, made));
    if (made.token !== "" && made.apiKey !== undefined) {
      const expires = formatTime(made.apiKey.expiresAt);
      const until = expires === "" ? "It never expires." : `It expires at ${expires}.`;
      cli.terminal.note(
        `Created the key ${describeKey(made.apiKey)} of user ${made.apiKey.userId}. ${until}`,
      );
    }
    return printToken(cli, made);
  });
}

export function keysUpdate(cli: Cli): Command {
  const command = createRemoteCommand(
    "update",
    "Change what is given of a key. It counts from then on, for running streams too.",
    [
      "latchkey keys update \"$KEY_ID\" --expires never --allowed-methods 'api.users.*'",
      'latchkey keys update "$KEY_ID" --allowed-addresses 203.0.113.0/24,2001:db8::/32',
    ],
  ).argument(...idArgument);
  command.option("--name <name>", "1 to 100 characters");
  withFields(command).option("--no-can-verify", "no longer").addOption(jsonOption());
  return command.action(async (id: string, options: FieldOptions) => {
    const named: readonly (readonly [string, unknown])[] = [
      ["name", options.name],
      ["description", options.description],
      ["type", options.type],
      ["expires_at", options.expires],
      ["allowed_methods", options.allowedMethods],
      ["allowed_addresses", options.allowedAddresses],
      ["can_verify", options.canVerify],
    ];
    const paths = named.filter(([, value]) => value !== undefined).map(([path]) => path);
    if (paths.length === 0) throw usageError(command, "nothing is to be changed: give an option");
    const remote = await connectRemote(cli, options);
    const { apiKey } = await remote.call("changing the key", () =>
      remote.client(ApiKeyService).updateApiKey({
        apiKey: { id, ...fieldsOf(options) },
        updateMask: create(FieldMaskSchema, { paths }),
      }),
    );
    await printKey(cli, options, apiKey);
  });
}

interface RotateOptions extends OneOptions {
  readonly grace?: number;
  readonly requestId?: string;
  readonly yes?: true;
}

export function keysRotate(cli: Cli): Command {
  return createRemoteCommand(
    "rotate",
    "Make a new token with the same grants and print it, this once and alone. The old key lives on for the grace period.",
    ['latchkey keys rotate "$KEY_ID" --grace 7d'],
  )
    .argument(...idArgument)
    .addOption(
      new Option("--grace <duration>", "how long the old key lives on, 0s to 90d (default: 24h)").argParser(
        parseDuration,
      ),
    )
    .option("--request-id <id>", "sent again within a day with the same one, makes no second key")
    .option("--yes", "do not ask, where --grace 0s ends the old key at once")
    .addOption(jsonOption("both keys and the new token as one JSON object"))
    .action(async (id: string, options: RotateOptions) => {
      const remote = await connectRemote(cli, options);
      if (options.grace === 0) {
        await cli.terminal.confirm(`The old token of key ${id} ends at once. Rotate it?`, options.yes);
      }
      const made = await remote.call("rotating the key", () =>
        remote.client(ApiKeyService).rotateApiKey({
          id,
          ...(options.grace !== undefined && { grace: durationFromMs(options.grace) }),
          requestId: options.requestId ?? "",
        }),
      );
      if (options.json) return cli.terminal.print(json(RotateApiKeyResponseSchema, made));
      if (made.token !== "" && made.apiKey !== undefined && made.rotatedFrom !== undefined) {
        const ends = formatTime(made.rotatedFrom.expiresAt);
        cli.terminal.note(
          `Created the key ${describeKey(made.apiKey)}. The old one, ${describeKey(made.rotatedFrom)}, ends at ${ends}.`,
        );
      }
      return printToken(cli, made);
    });
}
