/** Login profiles: a server and a token each, in a file that its owner alone can read. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";

export interface Profile {
  readonly server: string;
  readonly token: string;
  /** Certificates that the server's is signed with, beside the system's. */
  readonly caFile?: string;
  /** The token may go over cleartext, whatever the host. */
  readonly allowCleartext?: boolean;
}

export const defaultProfile = "default";

const folderOf = (configDir: string) => join(configDir, "profiles");

function fileOf(configDir: string, name: string): string {
  if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) {
    throw new Failure(
      "the name of a profile must be 1 to 64 letters, digits and . _ -, and begin with a letter or digit",
      exitCodes.usage,
    );
  }
  return join(folderOf(configDir), `${name}.json`);
}

/** Reads a profile; undefined where there is none. */
export async function readProfile(configDir: string, name: string): Promise<Profile | undefined> {
  const file = fileOf(configDir, name);
  let text: string;
  try {
    const { mode } = await stat(file);
    if (process.platform !== "win32" && (mode & 0o077) !== 0) {
      throw new Failure(
        `${file} can be read by others than its owner: chmod 600 it, and rotate its key where they may have`,
      );
    }
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw new Failure(`cannot read the profile ${name} (${message})`);
  }
  try {
    const { server, token, caFile, allowCleartext } = JSON.parse(text) as Partial<Profile>;
    if (typeof server === "string" && typeof token === "string") {
      return {
        server,
        token,
        ...(caFile !== undefined && { caFile }),
        ...(allowCleartext && { allowCleartext }),
      };
    }
  } catch {
    // As below.
  }
  throw new Failure(`${file} is damaged: log in again, latchkey login --profile ${name}`);
}

/** Writes a profile: a reader finds the one before or this one, whole. Returns the file. */
export async function writeProfile(configDir: string, name: string, profile: Profile): Promise<string> {
  const file = fileOf(configDir, name);
  const draft = `${file}.${randomBytes(6).toString("hex")}`;
  try {
    await mkdir(folderOf(configDir), { recursive: true, mode: 0o700 });
    const handle = await open(draft, "wx", 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(profile, null, 2)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {});
    throw new Failure(`cannot keep the profile (${(error as Error).message})`);
  }
  return file;
}

/** Deletes a profile. Returns whether there was one. */
export async function deleteProfile(configDir: string, name: string): Promise<boolean> {
  const file = fileOf(configDir, name);
  try {
    await rm(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw new Failure(`cannot delete the profile ${name} (${(error as Error).message})`);
  }
}

/** Names of all profiles, sorted. */
export async function listProfiles(configDir: string): Promise<string[]> {
  try {
    const names = await readdir(folderOf(configDir));
    return names
      .filter((name) => name.endsWith(".json"))
      .map((name) => name.slice(0, -".json".length))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new Failure(`cannot list the profiles (${(error as Error).message})`);
  }
}
