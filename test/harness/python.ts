/** The Python that test/clients runs on, with what test/clients/requirements.txt lists. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const advice =
  "make one: python3 -m venv DIR && DIR/bin/pip install -r test/clients/requirements.txt; then set TEST_PYTHON=DIR/bin/python";

/** An interpreter that has these modules; throws, saying how to make one, where there is none. */
export async function findPython(...modules: readonly [string, ...string[]]): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const python = process.env.TEST_PYTHON || join(cache, "latchkey", "python", "bin", "python");
  if (!existsSync(python)) throw new Error(`there is no Python at ${python}: ${advice}`);
  try {
    await promisify(execFile)(python, ["-c", `import ${modules.join(", ")}`]);
  } catch {
    throw new Error(`${python} lacks one of ${modules.join(", ")}: ${advice}`);
  }
  return python;
}

/** A program that one of its packages brings. */
export async function findPythonProgram(name: string): Promise<string> {
  const program = join(dirname(await findPython("grpc")), name);
  if (!existsSync(program)) throw new Error(`there is no ${program}: ${advice}`);
  return program;
}
