/** `latchkey users`: whom keys sign in. For staff. */
import { create } from "@bufbuild/protobuf";
import { FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  DeleteUserResponseSchema,
  type User,
  UserAdminService,
  UserSchema,
} from "../gen/latchkey/v1/user_admin_service_pb.js";
import { type Cli, createFamily, usageError } from "./command.ts";
import { jsonOption, type ListOptions, printList, withListOptions } from "./list.ts";
import { findUserId } from "./named-user.ts";
import { type Column, details, json } from "./output.ts";
import { connectRemote, createRemoteCommand, type Remote } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { formatTime } from "./times.ts";

export function usersCommands(cli: Cli): Command {
  return createFamily("users", "make, change, disable and delete users (for staff)", [
    usersList(cli),
    usersShow(cli),
    usersCreate(cli),
    usersUpdate(cli),
    usersSwitch(
      cli,
      "disable",
      "Disable a user: every key of theirs is refused until the user is enabled again.",
    ),
    usersSwitch(
      cli,
      "enable",
      "Enable a user again; keys that were neither revoked nor expired are good again.",
    ),
    usersDelete(cli),
  ]);
}

interface OneOptions extends RemoteOptions {
  readonly json?: true;
}

const userArgument = ["<user>", "id or username"] as const;

const columns: readonly Column<User>[] = [
  { title: "ID", cell: ({ id }) => String(id), right: true },
  { title: "USERNAME", cell: ({ username }) => username },
  { title: "EMAIL", cell: ({ email }) => email },
  { title: "STAFF", cell: ({ isStaff }) => (isStaff ? "yes" : "no") },
  { title: "STATUS", cell: ({ isActive }) => (isActive ? "active" : "disabled") },
  { title: "KEYS", cell: ({ activeApiKeyCount }) => String(activeApiKeyCount), right: true },
  { title: "CREATED", cell: ({ createdAt }) => formatTime(createdAt) },
];

async function printUser({ terminal }: Cli, options: OneOptions, found: User | undefined): Promise<void> {
  const user = found ?? create(UserSchema);
  if (options.json) return terminal.print(json(UserSchema, user));
  await terminal.print(
    details(terminal, [
      ["id", String(user.id)],
      ["username", user.username],
      ["email", user.email],
      ["bio", user.bio],
      ["staff", user.isStaff ? "yes" : "no"],
      ["status", user.isActive ? "active" : "disabled"],
      ["active keys", String(user.activeApiKeyCount)],
      ["created", formatTime(user.createdAt)],
      ["updated", formatTime(user.updatedAt)],
    ]),
  );
}

interface UsersListOptions extends RemoteOptions, ListOptions {
  readonly search?: string;
  readonly staff?: boolean;
  readonly disabled?: boolean;
}

function usersList(cli: Cli): Command {
  const command = createRemoteCommand("list", "List users in the order of their ids.", [
    "latchkey users list",
    "latchkey users list --staff --json",
  ])
    .option("--search <text>", "whose username or email contains this")
    .option("--staff", "only staff")
    .option("--no-staff", "only others")
    .option("--disabled", "only users that are disabled")
    .option("--no-disabled", "only users that are active");
  return withListOptions(command).action(async (options: UsersListOptions) => {
    const remote = await connectRemote(cli, options);
    await printList(cli, options, {
      schema: UserSchema,
      columns,
      mostOfPage: 500,
      read: async (pageSize, pageToken) => {
        const page = await remote.call("reading users", () =>
          remote.client(UserAdminService).listUsers({
            search: options.search ?? "",
            ...(options.staff !== undefined && { isStaff: options.staff }),
            ...(options.disabled !== undefined && { isActive: !options.disabled }),
            pageSize,
            pageToken,
          }),
        );
        return { rows: page.users, nextPageToken: page.nextPageToken };
      },
    });
  });
}

function usersShow(cli: Cli): Command {
  return createRemoteCommand("show", "Show all of a user.", ["latchkey users show example"])
    .argument(...userArgument)
    .addOption(jsonOption())
    .action(async (name: string, options: OneOptions) => {
      const remote = await connectRemote(cli, options);
      await printUser(cli, options, await readUser(remote, name));
    });
}

function readUser(remote: Remote, name: string): Promise<User | undefined> {
  return remote.call("reading the user", async () => {
    const id = await findUserId(remote, name);
    return (await remote.client(UserAdminService).getUser({ id })).user;
  });
}

interface FieldOptions extends OneOptions {
  readonly username?: string;
  readonly email?: string;
  readonly bio?: string;
  readonly staff?: boolean;
}

function usersCreate(cli: Cli): Command {
  return createRemoteCommand("create", "Create a user, active from the start.", [
    "latchkey users create --username ada --email ada@example.com",
  ])
    .requiredOption("--username <name>", "1 to 150 letters, digits and @ . + - _")
    .option("--email <address>", "an email address")
    .option("--bio <text>", "at most 2,000 characters")
    .option("--staff", "may do everything")
    .addOption(jsonOption())
    .action(async ({ username = "", email = "", bio = "", staff, ...options }: FieldOptions) => {
      const remote = await connectRemote(cli, options);
      const { user } = await remote.call("creating the user", () =>
        remote.client(UserAdminService).createUser({ username, email, bio, isStaff: staff === true }),
      );
      await printUser(cli, options, user);
    });
}

function usersUpdate(cli: Cli): Command {
  const command = createRemoteCommand("update", "Change what is given of a user.", [
    "latchkey users update example --email someone@example.com --bio ''",
  ])
    .argument(...userArgument)
    .option("--username <name>", "1 to 150 letters, digits and @ . + - _")
    .option("--email <address>", "'' for none")
    .option("--bio <text>", "'' for none")
    .option("--staff", "may do everything")
    .option("--no-staff", "may do what others may")
    .addOption(jsonOption());
  return command.action(async (name: string, { username, email, bio, staff, ...options }: FieldOptions) => {
    const fields = {
      ...(username !== undefined && { username }),
      ...(email !== undefined && { email }),
      ...(bio !== undefined && { bio }),
      ...(staff !== undefined && { isStaff: staff }),
    };
    const paths = Object.keys(fields).map((field) => (field === "isStaff" ? "is_staff" : field));
    if (paths.length === 0) throw usageError(command, "nothing is to be changed: give an option");
    const remote = await connectRemote(cli, options);
    const { user } = await change(remote, name, fields, paths);
    await printUser(cli, options, user);
  });
}

function change(
  remote: Remote,
  name: string,
  fields: { username?: string; email?: string; bio?: string; isStaff?: boolean; isActive?: boolean },
  paths: string[],
) {
  return remote.call("changing the user", async () => {
    const id = await findUserId(remote, name);
    return remote
      .client(UserAdminService)
      .updateUser({ user: { id, ...fields }, updateMask: create(FieldMaskSchema, { paths }) });
  });
}

function usersSwitch(cli: Cli, verb: "disable" | "enable", description: string): Command {
  return createRemoteCommand(verb, description, [`latchkey users ${verb} example`])
    .argument(...userArgument)
    .addOption(jsonOption())
    .action(async (name: string, options: OneOptions) => {
      const remote = await connectRemote(cli, options);
      const isActive = verb === "enable";
      const { user, endedApiKeyCount } = await change(remote, name, { isActive }, ["is_active"]);
      if (endedApiKeyCount > 0) cli.terminal.note(`${endedApiKeyCount} active keys are refused from now on.`);
      await printUser(cli, options, user);
    });
}

interface DeleteOptions extends OneOptions {
  readonly yes?: true;
}

function usersDelete(cli: Cli): Command {
  return createRemoteCommand(
    "delete",
    "Delete a user and all of its keys. Its rows in the request log and the audit log stay.",
    ["latchkey users delete example --yes"],
  )
    .argument(...userArgument)
    .option("--yes", "do not ask")
    .addOption(jsonOption())
    .action(async (name: string, options: DeleteOptions) => {
      const remote = await connectRemote(cli, options);
      const user = (await readUser(remote, name)) ?? create(UserSchema);
      await cli.terminal.confirm(
        `Delete the user ${user.username} (${user.id}) and its ${user.activeApiKeyCount} active keys for good?`,
        options.yes,
      );
      const answer = await remote.call("deleting the user", () =>
        remote.client(UserAdminService).deleteUser({ id: user.id }),
      );
      await cli.terminal.print(
        options.json
          ? json(DeleteUserResponseSchema, answer)
          : `deleted ${user.username} and ${answer.endedApiKeyCount} active keys\n`,
      );
    });
}
