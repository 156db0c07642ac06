/** `latchkey serve`: the server, its settings as flags too. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Command, Option } from "commander";
import { ConfigError, parseNamed, readConfig, type Setting, settings } from "../config.ts";
import { type SettingHelp, settingHelp } from "../config-help.ts";
import { type Cli, createCommand, usageError } from "./command.ts";
import { withSettings } from "./with-settings.ts";

type Flags = Readonly<Record<string, string | true | undefined>>;

export function serveCommand(cli: Cli): Command {
  const command = createCommand(
    "serve",
    "Run the server; the default command. Each setting comes from the environment, by the name in capitals, or from a " +
      "flag, which stands above it.",
    ["latchkey serve --port 50052 --workers 2", "PORT=50052 latchkey serve --require-auth"],
  );
  for (const setting of settings) command.addOption(flagOf(setting));
  command.option("--watch", "start again when the program's files change; for development");
  return command.action(async ({ watch, ...flags }: Flags) => {
    const env = { ...cli.serverEnv, ...readFlags(command, flags) };
    const config = readConfig(env);
    if (watch) {
      if (config.production) throw usageError(command, "--watch is for development: NODE_ENV is production");
      return watchAndServe(env);
    }
    return withSettings(config, async () => {
      const { serve } = await import("./serve.ts");
      if (config.workers === 1) return serve(config);
      const { serveWithWorkers } = await import("./workers.ts");
      return serveWithWorkers(config);
    });
  });
}

const helpOf = ({ field }: Setting): SettingHelp => settingHelp[field];
/** E.g. "log-retention-days". */
const nameOf = ({ env }: Setting) => env.replace("LATCHKEY_", "").toLowerCase().replaceAll("_", "-");

function flagOf(setting: Setting): Option {
  const { value, text } = helpOf(setting);
  const shown = setting.fallback(false);
  const fallback = shown === undefined || String(shown) === "" ? "" : `; default ${shown}`;
  const flag = new Option(
    `--${nameOf(setting)} ${value === undefined ? "[boolean]" : `<${value}>`}`,
    `${text} (${setting.env}${fallback})`,
  );
  return setting.secret === "whole" ? flag.hideHelp() : flag;
}

/** The environment that flags stand for. */
function readFlags(command: Command, flags: Flags): Record<string, string> {
  const env: Record<string, string> = {};
  for (const setting of settings) {
    const option = command.options.find(({ long }) => long === `--${nameOf(setting)}`);
    const given = option && flags[option.attributeName()];
    if (given === undefined) continue;
    const value = given === true ? "true" : given;
    const flag = `--${nameOf(setting)}`;
    if (holdsSecret(setting, value)) {
      throw usageError(
        command,
        `${flag} with a secret is not taken: other users of this machine could read it. Set ${setting.env} in the environment`,
      );
    }
    try {
      parseNamed(flag, setting.parse, value);
    } catch (error) {
      throw error instanceof ConfigError ? usageError(command, error.message) : error;
    }
    env[setting.env] = value;
  }
  return env;
}

function holdsSecret({ secret }: Setting, value: string): boolean {
  return secret === "whole" || (secret === "password" && /^postgres(ql)?:\/\/[^@/]*:[^@/]+@/.test(value));
}

/** Runs the server in a process that Node starts again when a file of the program changes. */
function watchAndServe(env: Record<string, string | undefined>): Promise<void> {
  const main = process.argv[1] ?? fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, ["--watch", "--watch-preserve-output", main, "serve"], {
    stdio: "inherit",
    env,
  });
  // A terminal sends it to all at once; npm and others to this process alone.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      process.exitCode = code ?? (signal === null ? 1 : 0);
      resolve();
    });
  });
}
