/** Which server a command talks to, and with which token. */
import { readFile } from "node:fs/promises";
import { isForeignToken } from "../auth/token.ts";
import { isPrivateUrl } from "../private-url.ts";
import type { Cli } from "./command.ts";
import { exitCodes, Failure } from "./failure.ts";
import { defaultProfile, type Profile, readProfile } from "./profile.ts";

/** Options that every command has that talks to a server. */
export interface RemoteOptions {
  readonly server?: string;
  readonly tokenFile?: string;
  readonly profile?: string;
  readonly caFile?: string;
  readonly allowCleartext?: true;
  /** Milliseconds. */
  readonly timeout?: number;
}

export interface Target {
  /** Without a slash at its end. */
  readonly server: string;
  readonly token: string | undefined;
  readonly ca: Buffer | undefined;
}

export const defaultServer = "http://127.0.0.1:50051";

/**
 * Finds both. The nearer source wins: an option, then the environment, then the profile. A
 * profile's token goes to the profile's own server and to no other.
 */
export async function findTarget(cli: Cli, options: RemoteOptions): Promise<Target> {
  const { env } = cli;
  const name = options.profile ?? env.profile;
  const profile = await readProfile(env.configDir, name ?? defaultProfile);
  if (name !== undefined && profile === undefined) {
    throw new Failure(
      `there is no profile ${name}: latchkey login --profile ${name} makes it`,
      exitCodes.unauthenticated,
    );
  }
  // A profile that was asked for by an option stands above the environment.
  const asked = options.profile === undefined ? undefined : profile;
  const server = readServerUrl(
    options.server ?? asked?.server ?? env.server ?? profile?.server ?? defaultServer,
  );
  const token =
    (await tokenFromFile(options.tokenFile)) ??
    (asked === undefined ? await tokenFromEnvironment(cli) : undefined) ??
    tokenOfProfile(profile, server, name !== undefined);
  const own = profile !== undefined && sameServer(profile.server, server) ? profile : undefined;
  if (token !== undefined && !(options.allowCleartext ?? own?.allowCleartext)) refuseCleartext(server);
  const caFile = options.caFile ?? own?.caFile;
  return { server, token, ca: caFile === undefined ? undefined : await readCa(caFile) };
}

/** Checks a server's URL. */
export function readServerUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol) || url.hostname === "") {
    throw new Failure(
      "the server must be a URL like https://keys.example.com or http://127.0.0.1:50051",
      exitCodes.usage,
    );
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new Failure(
      "the server's URL must hold no user, password, ? or #: a token comes by itself",
      exitCodes.usage,
    );
  }
  return url.href.replace(/\/+$/, "");
}

/** Refuses to let a token be read on the way. */
export function refuseCleartext(server: string): void {
  if (isPrivateUrl(new URL(server))) return;
  throw new Failure(
    `the token would go to ${server} in cleartext, for anyone on the way to read: use https, or give --allow-cleartext where the way is safe`,
  );
}

/** Checks what is to be a token. What it holds is never repeated. */
export function checkTokenText(text: string, from: string): string {
  const token = text.trim();
  if (token === "") throw new Failure(`${from} holds no token`, exitCodes.unauthenticated);
  if (!isForeignToken(token)) {
    throw new Failure(
      `${from} does not hold a token alone: a token is 8 to 512 visible ASCII characters`,
      exitCodes.unauthenticated,
    );
  }
  return token;
}

async function tokenFromFile(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return checkTokenText(await readFile(file, "utf8"), file);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(`cannot read the token (${(error as Error).message})`, exitCodes.unauthenticated);
  }
}

async function tokenFromEnvironment({ env }: Cli): Promise<string | undefined> {
  if (env.token !== undefined && env.tokenFile !== undefined) {
    throw new Failure("LATCHKEY_TOKEN and LATCHKEY_TOKEN_FILE are both set: unset one", exitCodes.usage);
  }
  return env.token === undefined ? tokenFromFile(env.tokenFile) : checkTokenText(env.token, "LATCHKEY_TOKEN");
}

function tokenOfProfile(profile: Profile | undefined, server: string, isNamed: boolean): string | undefined {
  if (profile === undefined || sameServer(profile.server, server)) return profile?.token;
  // The default profile was not asked for: the call is made without a token, or says that it needs one.
  if (!isNamed) return undefined;
  throw new Failure(
    `the profile's token is for ${profile.server} and is not sent to ${server}: log in there, or give --token-file`,
    exitCodes.unauthenticated,
  );
}

function sameServer(a: string, b: string): boolean {
  return new URL(a).href === new URL(b).href;
}

/** Reads certificates to trust. */
export async function readCa(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new Failure(`cannot read the certificates (${(error as Error).message})`);
  }
}
