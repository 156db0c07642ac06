/** What the commands that talk to a running server take from the environment. A server's own settings are in config.ts. */
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

export interface ClientEnvironment {
  /** URL of the server. `LATCHKEY_SERVER`. */
  readonly server: string | undefined;
  /** `LATCHKEY_TOKEN`. */
  readonly token: string | undefined;
  /** File that holds the token. `LATCHKEY_TOKEN_FILE`. */
  readonly tokenFile: string | undefined;
  /** Name of a login profile. `LATCHKEY_PROFILE`. */
  readonly profile: string | undefined;
  /** Folder of the login profiles: `latchkey` in `XDG_CONFIG_HOME`, default ~/.config. */
  readonly configDir: string;
  /** False: no colours, even on a terminal. `NO_COLOR`, `TERM=dumb`. */
  readonly colors: boolean;
}

/** Names that the server passes over, though they begin with LATCHKEY_. */
export const clientNames: ReadonlySet<string> = new Set([
  "LATCHKEY_SERVER",
  "LATCHKEY_TOKEN",
  "LATCHKEY_TOKEN_FILE",
  "LATCHKEY_PROFILE",
]);

/** Reads it. An empty value counts as not set. Nothing is checked yet: not every command needs all of it. */
export function readClientEnvironment(env: Readonly<Record<string, string | undefined>>): ClientEnvironment {
  // The XDG specification has paths that are not absolute ignored.
  const configHome = isAbsolute(env.XDG_CONFIG_HOME ?? "") ? env.XDG_CONFIG_HOME : undefined;
  return {
    server: env.LATCHKEY_SERVER || undefined,
    token: env.LATCHKEY_TOKEN || undefined,
    tokenFile: env.LATCHKEY_TOKEN_FILE || undefined,
    profile: env.LATCHKEY_PROFILE || undefined,
    configDir: join(configHome ?? join(env.HOME || homedir(), ".config"), "latchkey"),
    colors: !env.NO_COLOR && env.TERM !== "dumb",
  };
}
