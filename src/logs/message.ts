/** A row of the request log as the message of the API. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RequestLogSchema } from "../gen/latchkey/v1/request_log_service_pb.js";
import { CredentialKind, DenialReason } from "../gen/latchkey/v1/verdict_pb.js";
import { codeName } from "../rpc/code-name.ts";
import type { Instant, RequestLogRow } from "./row.ts";

export function toMessage(row: RequestLogRow): MessageInitShape<typeof RequestLogSchema> {
  return {
    id: row.id,
    time: timestamp(row.time),
    service: row.service,
    method: row.method,
    protocol: row.protocol,
    code: codeName(row.code),
    denialReason: enumValue(DenialReason, row.denialReason),
    userId: row.userId ?? 0n,
    apiKeyId: row.apiKeyId ?? "",
    credentialKind: enumValue(CredentialKind, row.credentialKind),
    duration: {
      seconds: row.durationUs / 1_000_000n,
      nanos: Number(row.durationUs % 1_000_000n) * 1000,
    },
    requestBytes: row.requestBytes ?? 0n,
    responseBytes: row.responseBytes ?? 0n,
    peerAddress: row.peerAddress ?? "",
    userAgent: row.userAgent,
    requestId: row.requestId,
    instanceId: row.instanceId,
    errorMessage: row.errorMessage ?? "",
    traceId: row.traceId ?? "",
  };
}

function timestamp(time: Instant): { seconds: bigint; nanos: number } {
  return {
    seconds: BigInt(Date.parse(`${time.slice(0, 19)}Z`) / 1000),
    nanos: Number(time.slice(20, 26)) * 1000,
  };
}

/** The enum value of a stored name; 0 for none and for one of a newer version. */
function enumValue(values: Readonly<Record<string, string | number>>, name: string | null): number {
  const value = values[name?.toUpperCase() ?? ""];
  return typeof value === "number" ? value : 0;
}
