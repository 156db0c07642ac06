/** `latchkey bootstrap` on the command line. */
import type { Command } from "commander";
import { readConfig } from "../config.ts";
import { type Cli, createCommand, usageError } from "./command.ts";
import { UsageError } from "./usage-error.ts";
import { withSettings } from "./with-settings.ts";

interface BootstrapOptions {
  readonly username: string;
  readonly email?: string;
}

export function bootstrapCommand(cli: Cli): Command {
  const command = createCommand(
    "bootstrap",
    "Create a staff user and an API key for it, and print the key's token, this once and alone. " +
      "It owns the database for that long: set DATABASE_URL to the one that the server will use, or stop a server that " +
      "runs on the embedded one.",
    ["latchkey bootstrap --username ada --email ada@example.com"],
  )
    .requiredOption("--username <name>", "1 to 150 letters, digits and @ . + - _")
    .option("--email <address>", "an email address");
  return command.action(async ({ username, email = "" }: BootstrapOptions) => {
    const { bootstrap } = await import("./bootstrap.ts");
    const config = readConfig(cli.serverEnv);
    try {
      await withSettings(config, () => bootstrap({ username, email }, config));
    } catch (error) {
      throw error instanceof UsageError ? usageError(command, error.message) : error;
    }
  });
}
