/** Options that say which rows of the request log, or which RPCs, are meant. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import type { RequestLogFilterSchema } from "../gen/latchkey/v1/request_log_service_pb.js";
import { DenialReasonSchema } from "../gen/latchkey/v1/verdict_pb.js";
import { findUserIdOrAny } from "./named-user.ts";
import { enumTexts, enumValue } from "./output.ts";
import type { Remote } from "./remote.ts";
import { parseDuration, parsePast } from "./times.ts";

/** Which RPCs, for logs and statistics alike. */
export interface CallFilterOptions {
  readonly user?: string;
  readonly key?: string;
  readonly service?: string;
  readonly method?: string;
  readonly code?: string;
}

export interface LogFilterOptions extends CallFilterOptions {
  readonly denial?: string;
  readonly errors?: true;
  readonly since?: Timestamp;
  readonly until?: Timestamp;
  readonly minDuration?: number;
  readonly maxDuration?: number;
  readonly protocol?: string;
  readonly address?: string;
  readonly text?: string;
}

export function withCallFilter(command: Command): Command {
  return command
    .option("--user <user>", "id or username: only calls of this user")
    .option("--key <id>", "only calls with this key")
    .option("--service <service>", "only this service, e.g. api.users.UserService")
    .option("--method <method>", "only this method, e.g. GetUser or api.users.UserService/GetUser")
    .option("--code <code>", "only calls that ended with this code, e.g. ok or not_found");
}

export function timeOption(flags: string, description: string): Option {
  return new Option(flags, `${description} (1h, 2027-01-01, 2027-01-01T12:00Z; UTC)`).argParser((text) =>
    parsePast(text),
  );
}

export function withLogFilter(command: Command): Command {
  return withCallFilter(command)
    .option("--errors", "only calls that ended with another code than ok")
    .addOption(
      new Option("--denial <reason>", "only calls that were refused for this").choices(
        enumTexts(DenialReasonSchema),
      ),
    )
    .addOption(timeOption("--since <time>", "only calls from then on"))
    .addOption(timeOption("--until <time>", "only calls before"))
    .addOption(
      new Option("--min-duration <duration>", "only calls that took as long, e.g. 500ms").argParser(
        parseDuration,
      ),
    )
    .addOption(
      new Option("--max-duration <duration>", "only calls that took no longer").argParser(parseDuration),
    )
    .addOption(
      new Option("--protocol <protocol>", "only this protocol").choices([
        "grpc",
        "grpc-web",
        "connect",
        "verify",
      ]),
    )
    .option("--address <block>", "only calls from this address or CIDR block")
    .option("--text <text>", "only calls whose error message contains this");
}

/** The filter that options make. Looks a username up. */
export async function callFilter(remote: Remote, options: CallFilterOptions) {
  const userId = await remote.call("looking the user up", () => findUserIdOrAny(remote, options.user));
  const [method = "", service = ""] = (options.method ?? "").split("/").reverse();
  return {
    userId,
    apiKeyId: options.key ?? "",
    service: options.service ?? service,
    method,
    code: options.code ?? "",
  };
}

export async function logFilter(
  remote: Remote,
  options: LogFilterOptions,
): Promise<MessageInitShape<typeof RequestLogFilterSchema>> {
  const { since, until, minDuration, maxDuration } = options;
  return {
    ...(await callFilter(remote, options)),
    errorsOnly: options.errors === true,
    denialReason: enumValue(DenialReasonSchema, options.denial),
    ...(since && { startTime: since }),
    ...(until && { endTime: until }),
    ...(minDuration !== undefined && { minDuration: durationFromMs(minDuration) }),
    ...(maxDuration !== undefined && { maxDuration: durationFromMs(maxDuration) }),
    protocol: options.protocol ?? "",
    peerAddress: options.address ?? "",
    errorText: options.text ?? "",
  };
}

/** E.g. "api.users.UserService/GetUser"; nothing for a verdict on no method in particular. */
export function methodText(service: string, method: string): string {
  return service === "" && method === "" ? "" : `${service}/${method}`;
}
