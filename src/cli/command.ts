/** How every command is made: its options, its help with examples that work, and its errors. */
import { Command, type CommanderError, Option } from "commander";
import type { ClientEnvironment } from "../config-client.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

/** What commands work with. */
export interface Cli {
  readonly terminal: Terminal;
  readonly env: ClientEnvironment;
  /** The whole environment, for the settings of a server. */
  readonly serverEnv: Readonly<Record<string, string | undefined>>;
}

/** Help was asked for and given. */
export class HelpShown extends Error {}

/** A command that takes these words, or that has commands of its own. */
export function createCommand(name: string, description: string, examples: readonly string[] = []): Command {
  const command = new Command(name)
    .description(description)
    .summary(description.match(/^.*?(?=\. [A-Z]|\.?$|: )/)?.[0] ?? description)
    .allowExcessArguments(false)
    .helpOption("-h, --help", "say how it is used")
    .configureHelp({ helpWidth: 100 })
    .exitOverride((error) => {
      throw helpOrUsage(command, error);
    })
    // Errors are thrown, and said in one place.
    .configureOutput({ writeErr: () => {}, outputError: () => {} });
  if (examples.length > 0) {
    const title = examples.length === 1 ? "Example" : "Examples";
    command.addHelpText(
      "after",
      `\n${title}:\n${examples.map((line) => `  $ ${line}\n`).join("")}`.trimEnd(),
    );
  }
  return command;
}

/** A command that is nothing without one of its own. */
export function createFamily(name: string, description: string, commands: readonly Command[]): Command {
  const family = createCommand(name, description).usage("COMMAND").helpCommand(false);
  for (const each of commands) family.addCommand(each);
  return family;
}

function helpOrUsage(command: Command, error: CommanderError): Error {
  if (error.exitCode === 0) return new HelpShown();
  if (error.code === "commander.help") {
    return new UsageError(`${pathOf(command)} needs a command\n\n${command.helpInformation()}`);
  }
  return usageError(command, error.message.replace(/^error: /, ""));
}

/** What is wrong, and how the command is used. */
export function usageError(command: Command, message: string): UsageError {
  const path = pathOf(command);
  return new UsageError(`${message}\n\nUsage: ${path} ${command.usage()}\nMore: ${path} --help`);
}

/** E.g. "latchkey keys create". */
export function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** An option whose values are separated by commas, and which may be repeated; an empty text clears. */
export function listOption(flags: string, description: string): Option {
  return new Option(flags, `${description}; separated by commas, or repeated`).argParser(
    (text: string, before: string[] | undefined) => [
      ...(before ?? []),
      ...text
        .split(",")
        .map((item) => item.trim())
        .filter(Boolean),
    ],
  );
}
