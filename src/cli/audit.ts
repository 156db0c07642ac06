/** `latchkey audit`: who changed which key or user. For staff. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  type AuditEvent,
  AuditEventSchema,
  AuditLogService,
} from "../gen/latchkey/v1/audit_log_service_pb.js";
import type { Cli } from "./command.ts";
import { type ListOptions, printList, withListOptions } from "./list.ts";
import { timeOption } from "./log-filter.ts";
import { findUserIdOrAny } from "./named-user.ts";
import type { Column } from "./output.ts";
import { connectRemote, createRemoteCommand } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { formatTime } from "./times.ts";

interface AuditOptions extends RemoteOptions, ListOptions {
  readonly actor?: string;
  readonly actorKey?: string;
  readonly user?: string;
  readonly key?: string;
  readonly action?: string;
  readonly since?: Timestamp;
  readonly until?: Timestamp;
}

const columns: readonly Column<AuditEvent>[] = [
  { title: "TIME", cell: ({ time }) => formatTime(time, true) },
  { title: "ACTION", cell: ({ action }) => action },
  { title: "BY", cell: ({ actorUserId }) => (actorUserId === 0n ? "" : String(actorUserId)), right: true },
  {
    title: "USER",
    cell: ({ targetUserId }) => (targetUserId === 0n ? "" : String(targetUserId)),
    right: true,
  },
  { title: "KEY", cell: ({ targetApiKeyId }) => targetApiKeyId },
  { title: "CHANGES", cell: changesOf },
];

export function auditCommand(cli: Cli): Command {
  const command = createRemoteCommand(
    "audit",
    "List changes of keys and users, the newest first. For staff.",
    ["latchkey audit --since 7d", 'latchkey audit --key "$KEY_ID" --json'],
  )
    .option("--actor <user>", "id or username: only what this user did")
    .option("--actor-key <id>", "only what was done with this key")
    .option("--user <user>", "id or username: only changes of this user and of its keys")
    .option("--key <id>", "only changes of this key")
    .option("--action <action>", "only this, e.g. api_key.revoke or user.update")
    .addOption(timeOption("--since <time>", "only from then on"))
    .addOption(timeOption("--until <time>", "only before"));
  return withListOptions(command).action(async (options: AuditOptions) => {
    const remote = await connectRemote(cli, options);
    const [actorUserId, targetUserId] = await remote.call("looking users up", () =>
      Promise.all([findUserIdOrAny(remote, options.actor), findUserIdOrAny(remote, options.user)]),
    );
    await printList(cli, options, {
      schema: AuditEventSchema,
      columns,
      mostOfPage: 500,
      read: async (pageSize, pageToken) => {
        const page = await remote.call("reading the audit log", () =>
          remote.client(AuditLogService).listAuditEvents({
            actorUserId,
            actorApiKeyId: options.actorKey ?? "",
            targetUserId,
            targetApiKeyId: options.key ?? "",
            action: options.action ?? "",
            ...(options.since && { startTime: options.since }),
            ...(options.until && { endTime: options.until }),
            pageSize,
            pageToken,
          }),
        );
        return { rows: page.auditEvents, nextPageToken: page.nextPageToken };
      },
    });
  });
}

/** E.g. `is_active: true → false`. What was empty before and after is left out. */
function changesOf({ before, after }: AuditEvent): string {
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
  return [...names]
    .flatMap((name) => {
      const [was, is] = [valueText(before, name), valueText(after, name)];
      if (was === "" && is === "") return [];
      return [was === "" ? `${name}: ${is}` : `${name}: ${was} → ${is || "none"}`];
    })
    .join(", ");
}

function valueText(values: JsonObject | undefined, name: string): string {
  const value = values?.[name];
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.join(" ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
