import { mkdtemp, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { unless } from "./error.ts";

const UNPUBLISHED = ".new-";
const ABANDONED_AFTER_MS = 600_000;

/**
 * Builds a directory aside and renames it into place, whole. Where another process was first, its directory
 * stays and this one is dropped.
 */
export async function publishDirectory(
  parent: string,
  name: string,
  build: (directory: string) => Promise<void>,
): Promise<void> {
  const aside = await mkdtemp(join(parent, UNPUBLISHED));
  try {
    await build(aside);
    await unless(["ENOTEMPTY", "EEXIST"], () => rename(aside, join(parent, name)), undefined);
    await sync(parent);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/**
 * Removes what processes that were killed while they built it left behind. By age, not by process id: two
 * containers that share a volume do not see each other's processes.
 */
export async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith(UNPUBLISHED)) continue;
    const path = join(directory, name);
    const found = await unless(["ENOENT"], () => stat(path), undefined);
    if (!found || Date.now() - found.mtimeMs < ABANDONED_AFTER_MS) continue;
    await rm(path, { recursive: true, force: true });
  }
}

/** Flushes a file, or a directory's names, to disk: a power cut must not leave a published directory with holes. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path);
  await handle.sync().finally(() => handle.close());
}
