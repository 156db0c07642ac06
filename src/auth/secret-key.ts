/** The development secret key: configured, or made once and kept in the data directory. */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Where the development secret key of a data directory is kept. */
export function secretKeyFile(dataDir: string): string {
  return join(dataDir, "secret-key");
}

/** The secret key that is accepted: the configured one, else the data directory's; undefined: none is. */
export async function acceptedSecretKey(settings: {
  readonly acceptSecretKey: boolean;
  readonly secretKey: string | undefined;
  readonly dataDir: string;
}): Promise<string | undefined> {
  if (!settings.acceptSecretKey) return undefined;
  return settings.secretKey ?? (await developmentSecretKey(settings.dataDir));
}

/**
 * Reads the secret key of a data directory, and makes one on the first start.
 * The file is readable by its owner alone. Two processes that start at once end
 * up with the same one.
 */
async function developmentSecretKey(dataDir: string): Promise<string> {
  const file = secretKeyFile(dataDir);
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  // Written aside and linked into place, which the first of two does: nobody reads half a file.
  const draft = `${file}.${randomBytes(6).toString("hex")}`;
  await writeFile(draft, `sk_${randomBytes(24).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  try {
    await link(draft, file);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    await unlink(draft);
  }
  const secretKey = (await readFile(file, "utf8")).trim();
  if (secretKey.length < 16) throw new Error(`${file} holds no secret key: delete it and start again`);
  return secretKey;
}
