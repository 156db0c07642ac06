/** The command line: all commands, and what becomes of their errors. */
import type { Command } from "commander";
import { isToken } from "../auth/token.ts";
import { readClientEnvironment } from "../config-client.ts";
import { packageVersion } from "../version.ts";
import { auditCommand } from "./audit.ts";
import { bootstrapCommand } from "./bootstrap-command.ts";
import { callCommand } from "./call.ts";
import { type Cli, createCommand, HelpShown } from "./command.ts";
import { completionCommand } from "./completion.ts";
import { doctorCommand } from "./doctor.ts";
import { exitCodes, Failure } from "./failure.ts";
import { keysCommands } from "./keys.ts";
import { logsCommand } from "./logs.ts";
import { tokenAsArgument } from "./remote.ts";
import { serveCommand } from "./serve-command.ts";
import { sessionCommands } from "./session.ts";
import { statsCommand } from "./stats.ts";
import { createTerminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";
import { usersCommands } from "./users.ts";

const after = `
Without a command it serves. serve, bootstrap and doctor look after the server of this machine; the others talk to a
running one, with a token from --token-file, LATCHKEY_TOKEN, LATCHKEY_TOKEN_FILE or latchkey login.

Exit status: 0 done, 1 failed, 2 used wrongly, 3 unauthenticated, 4 permission denied, 5 not found, 6 unavailable.

Examples:
  $ latchkey serve --workers 2
  $ latchkey keys list --help`;

/** All commands. */
export function createProgram(cli: Cli): Command {
  const program = createCommand("latchkey", "API keys for gRPC and Connect services.")
    .usage("[COMMAND]")
    .version(packageVersion, "-V, --version", "say which version this is")
    .helpCommand("help [command]", "say how a command is used")
    .addHelpText("after", after);
  const groups: readonly (readonly [string, readonly Command[]])[] = [
    ["The server:", [serveCommand(cli), bootstrapCommand(cli), doctorCommand(cli)]],
    ["Keys and users:", [keysCommands(cli), usersCommands(cli)]],
    ["What happened:", [logsCommand(cli), statsCommand(cli), auditCommand(cli)]],
    ["This command:", [...sessionCommands(cli), callCommand(cli), completionCommand(cli)]],
  ];
  for (const [heading, commands] of groups) {
    for (const command of commands) program.addCommand(command.helpGroup(heading));
  }
  return program;
}

/** Runs a command. Sets the exit status; a server goes on. */
export async function run(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const clientEnv = readClientEnvironment(env);
  const cli: Cli = { terminal: createTerminal(clientEnv.colors), env: clientEnv, serverEnv: env };
  try {
    refuseTokens(args);
    await createProgram(cli).parseAsync(withDefault(args), { from: "user" });
  } catch (error) {
    if (error instanceof HelpShown) return;
    const { message, exitCode } = await describe(error);
    cli.terminal.note(`latchkey: ${redact(message)}`);
    // At once: what a server that could not start has opened may keep the process.
    process.exit(exitCode);
  }
}

/** Without a command it is `serve`. */
function withDefault(args: readonly string[]): readonly string[] {
  const [first = "serve"] = args;
  if (["-h", "--help", "-V", "--version"].includes(first)) return args;
  return first.startsWith("-") || args.length === 0 ? ["serve", ...args] : args;
}

const tokens = /[a-z][a-z0-9_]{0,15}_[0-9A-Za-z]{38}(?![0-9A-Za-z])/g;

/** A token anywhere among the arguments is known to others already. */
function refuseTokens(args: readonly string[]): void {
  for (const [token] of args.flatMap((arg) => [...arg.matchAll(tokens)])) {
    if (isToken(token, token.slice(0, -39))) throw new UsageError(tokenAsArgument);
  }
}

function redact(message: string): string {
  return message.replaceAll(tokens, (token) => `${token.slice(0, -38)}[redacted]`);
}

async function describe(error: unknown): Promise<{ message: string; exitCode: number }> {
  if (error instanceof UsageError) return { message: error.message, exitCode: exitCodes.usage };
  if (error instanceof Failure) return error;
  const { explain } = await import("./explain.ts");
  return { message: explain(error), exitCode: exitCodes.failed };
}
