/** `latchkey login`, `logout`, `whoami` and `profiles`: who this command is, to which server. */
import { resolve } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Command, Option } from "commander";
import { CurrentSessionSchema, SessionService } from "../gen/latchkey/v1/session_service_pb.js";
import { CredentialKindSchema } from "../gen/latchkey/v1/verdict_pb.js";
import { type Cli, createCommand } from "./command.ts";
import { exitCodes, Failure } from "./failure.ts";
import { jsonOption } from "./list.ts";
import { createTable, details, enumText, json } from "./output.ts";
import { defaultProfile, deleteProfile, listProfiles, readProfile, writeProfile } from "./profile.ts";
import {
  connectRemote,
  createRemoteCommand,
  openRemote,
  type Remote,
  takeNoToken,
  timeoutOption,
} from "./remote.ts";
import {
  checkTokenText,
  defaultServer,
  type RemoteOptions,
  readCa,
  readServerUrl,
  refuseCleartext,
} from "./target.ts";
import { formatTime } from "./times.ts";

export function sessionCommands(cli: Cli): Command[] {
  return [login(cli), logout(cli), whoami(cli), profiles(cli)];
}

/** The user that a token signs in. */
export async function ownUserId(remote: Remote): Promise<bigint> {
  const { current } = await remote.client(SessionService).getSession({});
  return current?.userId ?? 0n;
}

interface WhoamiOptions extends RemoteOptions {
  readonly json?: true;
}

function whoami(cli: Cli): Command {
  return createRemoteCommand("whoami", "Say whom the token signs in, and with which key.", [
    "latchkey whoami",
  ])
    .addOption(jsonOption())
    .action(async (options: WhoamiOptions) => {
      const remote = await connectRemote(cli, options);
      const { current } = await remote.call("asking who calls", () =>
        remote.client(SessionService).getSession({}),
      );
      if (current === undefined) throw new Failure(`${remote.target.server} does not say who calls`);
      if (options.json) return cli.terminal.print(json(CurrentSessionSchema, current));
      const { apiKey } = current;
      await cli.terminal.print(
        details(cli.terminal, [
          ["server", remote.target.server],
          ["user", `${current.username} (${current.userId})`],
          ["staff", current.isStaff ? "yes" : "no"],
          ["credential", enumText(CredentialKindSchema, current.credentialKind)],
          ["key", apiKey === undefined ? "" : `${apiKey.name} (${apiKey.start}, ${apiKey.id})`],
          [
            "methods",
            apiKey === undefined ? "" : apiKey.allowedMethods.join(", ") || "all that the user may call",
          ],
          ["ends", formatTime(current.endsAt) || "never"],
        ]),
      );
    });
}

type LoginOptions = Omit<RemoteOptions, "tokenFile">;

function login(cli: Cli): Command {
  const command = createCommand(
    "login",
    "Keep a token for later commands. It is read from standard input, without being shown on a terminal, checked with " +
      "the server, and kept in a file that only you can read.",
    ["latchkey login < token.txt", "latchkey login --profile staging < token.txt"],
  )
    .option(
      "--server <url>",
      "server that the token is for (default: LATCHKEY_SERVER, else http://127.0.0.1:50051)",
    )
    .option("--profile <name>", "name to keep it under (default: LATCHKEY_PROFILE, else default)")
    .option("--ca-file <file>", "PEM file of certificates to trust beside the system's; kept too")
    .option("--allow-cleartext", "send the token over http to another host than this one; kept too")
    .addOption(timeoutOption());
  takeNoToken(command);
  return command.action(async (options: LoginOptions) => {
    const { env, terminal } = cli;
    const name = options.profile ?? env.profile ?? defaultProfile;
    const before = await readProfile(env.configDir, name).catch((error: unknown) => {
      // One that is damaged, or that others can read, is written anew.
      if (error instanceof Failure && error.exitCode === exitCodes.failed) return undefined;
      throw error;
    });
    const server = readServerUrl(options.server ?? env.server ?? before?.server ?? defaultServer);
    const kept = before?.server === server ? before : undefined;
    const allowCleartext = options.allowCleartext ?? kept?.allowCleartext;
    if (!allowCleartext) refuseCleartext(server);
    const caFile = options.caFile === undefined ? kept?.caFile : resolve(options.caFile);
    const ca = caFile === undefined ? undefined : await readCa(caFile);
    const token = checkTokenText(await terminal.readSecret(`Token for ${server}: `), "standard input");
    const remote = openRemote(cli, { server, token, ca }, options.timeout);
    const who = await remote.call("checking the token", () => whoIs(remote));
    const file = await writeProfile(env.configDir, name, {
      server,
      token,
      ...(caFile !== undefined && { caFile }),
      ...(allowCleartext && { allowCleartext }),
    });
    terminal.note(`Logged in to ${server} as ${who}. The token is kept in ${file}.`);
    const above = env.token === undefined ? env.tokenFile && "LATCHKEY_TOKEN_FILE" : "LATCHKEY_TOKEN";
    if (above) terminal.note(`${above} is set, and stands above it until you unset it.`);
  });
}

/** Whom a token signs in, in words. Fails where it is refused. */
async function whoIs(remote: Remote): Promise<string> {
  try {
    const { current } = await remote.client(SessionService).getSession({});
    return `${current?.username} (user ${current?.userId}${current?.isStaff ? ", staff" : ""})`;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    // A key that is limited to other methods is good all the same.
    if (code !== Code.PermissionDenied) throw error;
    return `somebody it does not tell (${rawMessage})`;
  }
}

interface LogoutOptions {
  readonly profile?: string;
  readonly all?: true;
}

function logout(cli: Cli): Command {
  return createCommand("logout", "Forget a login. The key itself lives on: latchkey keys revoke ends it.", [
    "latchkey logout",
    "latchkey logout --all",
  ])
    .addOption(
      new Option("--profile <name>", "which one (default: LATCHKEY_PROFILE, else default)").conflicts("all"),
    )
    .option("--all", "every login")
    .action(async (options: LogoutOptions) => {
      const { env, terminal } = cli;
      const name = options.profile ?? env.profile ?? defaultProfile;
      const names = options.all ? await listProfiles(env.configDir) : [name];
      for (const each of names) {
        if (!(await deleteProfile(env.configDir, each))) {
          throw new Failure(`there is no login ${each}`, exitCodes.notFound);
        }
        terminal.note(`Logged out of ${each}.`);
      }
    });
}

function profiles(cli: Cli): Command {
  return createCommand("profiles", "List the logins that are kept.", ["latchkey profiles"])
    .addOption(jsonOption("one JSON object a line in place of a table"))
    .action(async (options: { json?: true }) => {
      const { env, terminal } = cli;
      const rows: { name: string; server: string; current: boolean }[] = [];
      for (const name of await listProfiles(env.configDir)) {
        const profile = await readProfile(env.configDir, name);
        if (profile === undefined) continue;
        rows.push({ name, server: profile.server, current: name === (env.profile ?? defaultProfile) });
      }
      if (options.json) return terminal.print(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
      const table = createTable<(typeof rows)[number]>(terminal, [
        { title: "NAME", cell: ({ name }) => name },
        { title: "SERVER", cell: ({ server }) => server },
        { title: "CURRENT", cell: ({ current }) => (current ? "yes" : "") },
      ]);
      await terminal.print(table.lines(rows));
    });
}
