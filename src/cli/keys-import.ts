/** `latchkey keys import`: keys of another system, from a file. */
import { readFile } from "node:fs/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Command, Option } from "commander";
import { ApiKeyService, ImportApiKeyResultSchema } from "../gen/latchkey/v1/api_key_service_pb.js";
import type { Cli } from "./command.ts";
import { describeCallFailure, exitCodes, Failure } from "./failure.ts";
import { columns, type FileKey, type Format, readImportFile } from "./import-file.ts";
import { jsonOption } from "./list.ts";
import { findUserId } from "./named-user.ts";
import { json } from "./output.ts";
import { connectRemote, createRemoteCommand, type Remote } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { readAll } from "./terminal.ts";

interface ImportOptions extends RemoteOptions {
  readonly format?: Format;
  readonly dryRun?: true;
  readonly json?: true;
}

/** The most that the server takes at once: all of them or none. */
const mostAtOnce = 1000;

export function keysImport(cli: Cli): Command {
  return createRemoteCommand(
    "import",
    "Take over keys of another system, so that their clients keep their tokens. The file is CSV with a line of names, " +
      `or has one JSON object a line; the names are ${columns.join(", ")}. A token stays on this machine: its hash is ` +
      "sent. What is there already is left as it is, so an import can be repeated. For staff.",
    ["latchkey keys import keys.csv --dry-run", "latchkey keys import keys.csv"],
  )
    .argument("<file>", "file to read; - is standard input")
    .addOption(
      new Option("--format <format>", "(default: by the file's name, else csv)").choices(["csv", "ndjson"]),
    )
    .option("--dry-run", "check the file and send nothing")
    .addOption(jsonOption("a JSON object for each key in place of a count"))
    .action(async (file: string, options: ImportOptions) => {
      const format = options.format ?? (/\.(nd)?jsonl?$/i.test(file) ? "ndjson" : "csv");
      const keys = readImportFile(await readInput(file), format);
      if (options.dryRun) {
        cli.terminal.note(`${keys.length} keys can be read; nothing was sent.`);
        return;
      }
      const remote = await connectRemote(cli, options);
      const userIds = await findUsers(remote, keys);
      let created = 0;
      for (let i = 0; i < keys.length; i += mostAtOnce) {
        const part = keys.slice(i, i + mostAtOnce);
        const answer = await remote.call(`importing keys (${i} of ${keys.length})`, () =>
          importPart(remote, part, userIds, i),
        );
        created += answer.createdCount;
        if (options.json) {
          await cli.terminal.print(
            answer.results.map((result) => json(ImportApiKeyResultSchema, result)).join(""),
          );
        }
      }
      const known = keys.length - created;
      if (!options.json) await cli.terminal.print(`imported ${created} keys; ${known} were there already\n`);
    });
}

async function readInput(file: string): Promise<string> {
  if (file === "-") return readAll();
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new Failure(`cannot read the file (${(error as Error).message})`, exitCodes.usage);
  }
}

/** Ids by what the file calls the users. */
async function findUsers(remote: Remote, keys: readonly FileKey[]): Promise<Map<string, bigint>> {
  const ids = new Map<string, bigint>();
  await remote.call("looking users up", async () => {
    for (const { user, line } of keys) {
      if (ids.has(user)) continue;
      try {
        ids.set(user, await findUserId(remote, user));
      } catch (error) {
        if (error instanceof Failure) throw new Failure(`line ${line}: ${error.message}`, error.exitCode);
        throw error;
      }
    }
  });
  return ids;
}

async function importPart(
  remote: Remote,
  part: readonly FileKey[],
  userIds: ReadonlyMap<string, bigint>,
  done: number,
) {
  try {
    return await remote.client(ApiKeyService).importApiKeys({
      apiKeys: part.map(({ user, key }) => ({ ...key, userId: userIds.get(user) ?? 0n })),
    });
  } catch (error) {
    const failure = describeCallFailure(ConnectError.from(error), remote.target.server);
    // In the words of the file.
    const told = failure.message.replaceAll(
      /api_keys\[(\d+)\](?:\.(\w+))?/g,
      (_, i: string, field?: string) => `line ${part[Number(i)]?.line}${field ? `, ${field}` : ""}:`,
    );
    const before = done === 0 ? "nothing was imported" : `the ${done} keys before were imported`;
    const where = `lines ${part[0]?.line} to ${part.at(-1)?.line}`;
    const again =
      ConnectError.from(error).code === Code.Unavailable ? "try again" : "mend it and import again";
    throw new Failure(`${told}\nNo key of ${where} was imported, ${before}: ${again}.`, failure.exitCode);
  }
}
