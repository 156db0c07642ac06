/** `latchkey keys verify`: the verdict that a server would come to. */
import type { Command } from "commander";
import {
  ApiKeyService,
  type ApiKeyVerdict,
  ApiKeyVerdictSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { DenialReasonSchema } from "../gen/latchkey/v1/verdict_pb.js";
import { readCode } from "../rpc/code-name.ts";
import { type Cli, usageError } from "./command.ts";
import { exitCodeOf } from "./failure.ts";
import { jsonOption } from "./list.ts";
import { type Column, createTable, enumText, json } from "./output.ts";
import { connectRemote, createRemoteCommand } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";

interface VerifyOptions extends RemoteOptions {
  readonly method?: string;
  readonly address?: string;
  readonly skipUsage?: true;
  readonly json?: true;
}

/** The most that the server takes at once. */
const mostAtOnce = 100;

const columns: readonly Column<ApiKeyVerdict>[] = [
  { title: "VERDICT", cell: ({ allowed }) => (allowed ? "allowed" : "refused") },
  { title: "CODE", cell: ({ code }) => code },
  { title: "REASON", cell: ({ denialReason }) => enumText(DenialReasonSchema, denialReason) },
  { title: "USER", cell: ({ principal }) => principal?.username ?? "" },
  { title: "KEY", cell: ({ principal }) => principal?.apiKeyId ?? "" },
  { title: "MESSAGE", cell: ({ message }) => message },
];

export function keysVerify(cli: Cli): Command {
  const command = createRemoteCommand(
    "verify",
    "Ask whether tokens may call a method. They come on standard input, one a line. " +
      "The exit status is that of the first refusal: 3 unauthenticated, 4 permission denied, 6 no verdict.",
    [
      "latchkey keys verify < token.txt",
      "latchkey keys verify --method billing.v1.InvoiceService/Pay --address 203.0.113.7 --skip-usage < token.txt",
    ],
  )
    .option("--method <method>", "that is to be called, like api.users.UserService/GetUser")
    .option("--address <address>", "that the call comes from")
    .option("--skip-usage", "neither count nor log it")
    .addOption(jsonOption("one JSON object a line in place of a table"));
  return command.action(async (options: VerifyOptions) => {
    const remote = await connectRemote(cli, options);
    const lines = (await cli.terminal.readSecret("Token: ")).split("\n").map((line) => line.trim());
    const tokens = lines.filter(Boolean);
    if (tokens.length === 0) throw usageError(command, "no token came on standard input");
    const table = createTable(cli.terminal, columns);
    let refused: ApiKeyVerdict | undefined;
    for (let i = 0; i < tokens.length; i += mostAtOnce) {
      const requests = tokens.slice(i, i + mostAtOnce).map((token) => ({
        token,
        method: options.method ?? "",
        address: options.address ?? "",
        skipUsage: options.skipUsage === true,
      }));
      const { verdicts } = await remote.call("asking for the verdict", () =>
        remote.client(ApiKeyService).batchVerifyApiKeys({ requests }),
      );
      refused ??= verdicts.find(({ allowed }) => !allowed);
      await cli.terminal.print(
        options.json
          ? verdicts.map((verdict) => json(ApiKeyVerdictSchema, verdict)).join("")
          : table.lines(verdicts),
      );
    }
    if (refused !== undefined) process.exitCode = exitCodeOf(readCode(refused.code));
  });
}
