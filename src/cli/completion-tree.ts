/** The commands as the shells complete them: taken from the same definition that reads the arguments. */
import type { Command, Option } from "commander";

export interface Flag {
  /** With its dashes. */
  readonly name: string;
  readonly description: string;
  readonly value: Value;
}

/** What follows a flag, or stands by itself: nothing, one of these, a file, or what nobody can guess. */
export type Value = "none" | "file" | "any" | readonly string[];

export interface Place {
  /** Words below `latchkey`, each after a slash; empty for `latchkey` itself. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly flags: readonly Flag[];
  readonly takesFile: boolean;
}

/** Every command and what may follow it. */
export function completionPlaces(command: Command, path = ""): Place[] {
  // Commander's own: -h on each, `help` on the first.
  const visible = command.createHelp();
  const children = visible.visibleCommands(command);
  return [
    {
      path,
      commands: children.map((child) => ({ name: child.name(), description: child.summary() })),
      flags: visible.visibleOptions(command).map(flagOf),
      takesFile: command.registeredArguments.some((argument) => argument.name() === "file"),
    },
    ...children
      .filter((child) => child.name() !== "help")
      .flatMap((child) => completionPlaces(child, `${path}/${child.name()}`)),
  ];
}

function flagOf(option: Option): Flag {
  return {
    name: option.long ?? option.flags,
    description: shortOf(option.description),
    value: valueAfter(option),
  };
}

function valueAfter(option: Option): Value {
  if (!option.required && !option.optional) return "none";
  if (option.argChoices !== undefined) return option.argChoices;
  if (/<(file|folder)>/.test(option.flags)) return "file";
  // It may stand alone.
  return option.optional ? ["true", "false"] : "any";
}

/** The first sentence. */
function shortOf(description: string): string {
  return description.split(/(?<=\.) |[:;] /)[0]?.replace(/\.$/, "") ?? "";
}
