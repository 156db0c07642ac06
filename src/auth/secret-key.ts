/** The development secret key: configured, or made once and kept in the data directory. */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Reads the secret key of a data directory, and makes one on the first start.
 * The file is readable by its owner alone. Two processes that start at once end
 * up with the same one.
 */
export async function developmentSecretKey(dataDir: string): Promise<string> {
  const file = join(dataDir, "secret-key");
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  try {
    await writeFile(file, `sk_${randomBytes(24).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
  const secretKey = (await readFile(file, "utf8")).trim();
  if (secretKey.length < 16) throw new Error(`${file} holds no secret key: delete it and start again`);
  return secretKey;
}
