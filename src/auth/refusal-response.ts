/** A refusal in the words of HTTP and of gRPC, for a proxy to answer its caller with. */
import type { ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJson } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";

export interface RefusalResponse {
  /** 401, 403 or 503 for what a verdict refuses. */
  readonly status: number;
  /** As Connect writes an error (its protocol, "Error codes"): code, message and details. */
  readonly json: string;
  /** `grpc-status`, `grpc-message` and `grpc-status-details-bin`. */
  readonly trailers: Headers;
  /** `www-authenticate`; undefined where the refusal is no matter of credentials. */
  readonly challenge: string | undefined;
}

/** Whether a content type is gRPC's, and not that of gRPC-Web. */
export function isGrpcType(contentType: string | undefined): boolean {
  return /^application\/grpc([+;]|$)/.test(contentType ?? "");
}

export function refusalResponse(error: ConnectError): RefusalResponse {
  return {
    status: codeToHttpStatus(error.code),
    json: JSON.stringify(errorToJson(error, undefined)),
    trailers: setTrailerStatus(new Headers(), error),
    challenge: error.metadata.get("www-authenticate") ?? undefined,
  };
}
