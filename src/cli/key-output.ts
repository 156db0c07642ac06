/** API keys as they are shown. */
import { create } from "@bufbuild/protobuf";
import {
  type ApiKey,
  ApiKeySchema,
  ApiKeyStatusSchema,
  ApiKeyTypeSchema,
  RevocationReasonSchema,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import type { Cli } from "./command.ts";
import { Failure } from "./failure.ts";
import { type Column, details, enumText, json } from "./output.ts";
import { formatTime } from "./times.ts";

export const keyColumns: readonly Column<ApiKey>[] = [
  { title: "ID", cell: (key) => key.id },
  { title: "USER", cell: (key) => key.username || String(key.userId) },
  { title: "NAME", cell: (key) => key.name },
  { title: "TYPE", cell: (key) => enumText(ApiKeyTypeSchema, key.type) },
  { title: "STATUS", cell: (key) => enumText(ApiKeyStatusSchema, key.status) },
  { title: "START", cell: (key) => key.start },
  { title: "EXPIRES", cell: (key) => formatTime(key.expiresAt) || "never" },
  { title: "LAST USED", cell: (key) => formatTime(key.lastUsedAt) || "never" },
  { title: "REQUESTS", cell: (key) => String(key.requestCount), right: true },
];

/** All of a key, a field a line. */
function keyDetails({ terminal }: Cli, key: ApiKey): string {
  const revoked = [
    formatTime(key.revokedAt),
    enumText(RevocationReasonSchema, key.revocationReason),
    key.revocationNote,
  ];
  return details(terminal, [
    ["id", key.id],
    ["user", key.username === "" ? String(key.userId) : `${key.username} (${key.userId})`],
    ["name", key.name],
    ["description", key.description],
    ["type", enumText(ApiKeyTypeSchema, key.type)],
    ["status", enumText(ApiKeyStatusSchema, key.status)],
    ["start", key.start],
    ["allowed methods", key.allowedMethods.join(", ") || "all that its user may call"],
    ["allowed addresses", key.allowedAddresses.join(", ") || "all"],
    ["can verify", key.canVerify ? "yes" : "no"],
    ["imported", key.imported ? "yes" : ""],
    ["requests", String(key.requestCount)],
    ["last used", formatTime(key.lastUsedAt) || "never"],
    ["expires", formatTime(key.expiresAt) || "never"],
    ["revoked", revoked.filter(Boolean).join(", ")],
    ["rotated from", key.rotatedFrom],
    ["rotated to", key.rotatedTo],
    ["created", formatTime(key.createdAt)],
    ["created by", key.createdBy === 0n ? "" : String(key.createdBy)],
    ["updated", formatTime(key.updatedAt)],
  ]);
}

/** One line about a key, for standard error. */
export function describeKey({ id, name, start }: ApiKey): string {
  return `${name} (${[start, id].filter(Boolean).join(", ")})`;
}

/** Prints a new token, alone. Fails where there is none, or where it can no longer be printed. */
export async function printToken(
  { terminal }: Cli,
  made: {
    readonly apiKey?: ApiKey | undefined;
    readonly token: string;
    readonly tokenWithheldReason: string;
  },
): Promise<void> {
  if (made.token === "") {
    throw new Failure(`${made.tokenWithheldReason || "the server gave no token"}: key ${made.apiKey?.id}`);
  }
  terminal.note("Its token is shown this once: keep it now.");
  await terminal.print(
    `${made.token}\n`,
    `nobody read the token, and it cannot be had again: revoke the key ${made.apiKey?.id}`,
  );
}

/** Prints a key, for people or for programs. */
export function printKey(
  cli: Cli,
  options: { readonly json?: true },
  apiKey: ApiKey | undefined,
): Promise<void> {
  const key = apiKey ?? create(ApiKeySchema);
  return cli.terminal.print(options.json ? json(ApiKeySchema, key) : keyDetails(cli, key));
}
