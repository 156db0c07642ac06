/** Commands that talk to a running server over RPC. */
import type { DescService } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type Command, Option } from "commander";
import { withApiKey } from "../client.ts";
import { packageVersion } from "../version.ts";
import { type Cli, createCommand, usageError } from "./command.ts";
import { describeCallFailure, exitCodes, Failure } from "./failure.ts";
import { findTarget, type RemoteOptions, type Target } from "./target.ts";
import { parseDuration } from "./times.ts";

export interface Remote {
  readonly target: Target;
  client<S extends DescService>(service: S): Client<S>;
  /** Makes calls: a failure is put in words. */
  attempt<T>(work: () => Promise<T>): Promise<T>;
  /** The same, and a wait that is long is told of. */
  call<T>(what: string, work: (tell: (what: string) => void) => Promise<T>): Promise<T>;
}

/** A command with the options that say which server, and with which token. */
export function createRemoteCommand(name: string, description: string, examples: readonly string[]): Command {
  const command = createCommand(name, description, examples);
  // First, so that what is the command's own stands above the connection.
  takeNoToken(command);
  const group = "Connection:";
  const options = [
    new Option("--server <url>", "server to talk to (default: the profile's, else http://127.0.0.1:50051)"),
    new Option("--token-file <file>", "read the token from this file"),
    new Option("--profile <name>", "use this login (default: default)"),
    new Option("--ca-file <file>", "PEM file of certificates to trust beside the system's"),
    new Option("--allow-cleartext", "send the token over http to another host than this one"),
    timeoutOption(),
  ];
  for (const option of options) command.addOption(option.helpGroup(group));
  return command;
}

/** How long a command waits for an answer. */
export const defaultTimeoutMs = 30_000;

export function timeoutOption(): Option {
  const description = `wait this long for an answer (default: ${defaultTimeoutMs / 1000}s)`;
  return new Option("--timeout <duration>", description).argParser(parseDuration);
}

/** Has a command say, where a token is given as an argument, what to do instead. */
export function takeNoToken(command: Command): void {
  command.addOption(new Option("--token <token>").hideHelp());
  command.hook("preAction", () => {
    if (command.getOptionValue("token") !== undefined) throw usageError(command, tokenAsArgument);
  });
}

/** Why a token that was given as an argument is refused. */
export const tokenAsArgument =
  "a token is never taken as an argument: other users of this machine could read it, and the shell keeps it. " +
  "Keep it in a file (--token-file), in LATCHKEY_TOKEN, or give it to latchkey login on standard input; " +
  "revoke the one that was just given";

/** Reaches the server of a command. Fails where there is no token, and the command needs one. */
export async function connectRemote(cli: Cli, options: RemoteOptions): Promise<Remote> {
  const target = await findTarget(cli, options);
  if (target.token === undefined) {
    throw new Failure(
      `there is no token for ${target.server}: latchkey login takes one, --token-file reads one, or set LATCHKEY_TOKEN`,
      exitCodes.unauthenticated,
    );
  }
  return openRemote(cli, target, options.timeout);
}

/** Reaches a server. */
export function openRemote({ terminal }: Cli, target: Target, timeoutMs = defaultTimeoutMs): Remote {
  // HTTP/1.1 passes every proxy, and none of these calls needs more.
  const transport = createConnectTransport({
    baseUrl: target.server,
    httpVersion: "1.1",
    interceptors: identify(target.token),
    defaultTimeoutMs: timeoutMs,
    nodeOptions: { ...(target.ca && { ca: target.ca }) },
  });
  const attempt: Remote["attempt"] = (work) =>
    work().catch((error: unknown) => {
      throw error instanceof ConnectError ? describeCallFailure(error, target.server) : error;
    });
  return {
    target,
    client: (service) => createClient(service, transport),
    attempt,
    call: (what, work) => attempt(() => terminal.during(what, work)),
  };
}

/** Says what calls, and sends the token. As a bearer: what the server names the other header, its clients need not know. */
export function identify(token: string | undefined): Interceptor[] {
  const nameUserAgent: Interceptor = (next) => (request) => {
    request.header.set("user-agent", `latchkey/${packageVersion}`);
    return next(request);
  };
  if (token === undefined) return [nameUserAgent];
  // Whether it may go in cleartext was decided as the target was found.
  return [nameUserAgent, withApiKey(token, { header: "authorization", allowCleartext: true })];
}
