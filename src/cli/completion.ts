/** `latchkey completion`: scripts that let a shell complete commands and options. */
import { Argument, type Command } from "commander";
import { type Cli, createCommand } from "./command.ts";
import { bashScript } from "./completion-bash.ts";
import { fishScript } from "./completion-fish.ts";
import { completionPlaces } from "./completion-tree.ts";
import { zshScript } from "./completion-zsh.ts";

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;

export function completionCommand({ terminal }: Cli): Command {
  const command = createCommand(
    "completion",
    "Print a script that lets a shell complete commands and options.",
    [
      "latchkey completion bash > ~/.local/share/bash-completion/completions/latchkey",
      "latchkey completion zsh > ~/.zfunc/_latchkey",
      "latchkey completion fish > ~/.config/fish/completions/latchkey.fish",
    ],
  ).addArgument(new Argument("<shell>").choices(Object.keys(scripts)));
  return command.action(async (shell: keyof typeof scripts) => {
    const root = command.parent ?? command;
    await terminal.print(scripts[shell](completionPlaces(root)));
  });
}
