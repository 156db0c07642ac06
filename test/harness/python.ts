/** The Python that tests of other languages' clients run. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** An interpreter that has these modules; throws, saying how to make one, where there is none. */
export async function findPython(...modules: string[]): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const python = process.env.TEST_PYTHON || join(cache, "latchkey", "python", "bin", "python");
  const advice =
    "make one: python3 -m venv DIR && DIR/bin/pip install -r test/clients/requirements.txt; then set TEST_PYTHON=DIR/bin/python";
  if (!existsSync(python)) throw new Error(`there is no Python at ${python}: ${advice}`);
  try {
    await run(python, ["-c", `import ${modules.join(", ")}`]);
  } catch {
    throw new Error(`${python} lacks one of ${modules.join(", ")}: ${advice}`);
  }
  return python;
}
