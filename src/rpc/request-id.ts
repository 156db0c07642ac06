/** Requests that can be sent again safely, by an id that their sender chose. */
import { createHash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { invalid } from "./validate.ts";

/** A request's id, and what tells it from another request with the same id. */
export interface RequestIdentity {
  readonly requestId: string;
  /** SHA-256 of what was asked for. */
  readonly digest: Buffer;
}

/**
 * Reads the id that a request carries; undefined: none. Throws `invalid_argument`
 * for one that is not 1 to 128 visible ASCII characters.
 */
export function readRequestId<Desc extends DescMessage>(
  schema: Desc,
  request: MessageShape<Desc> & { requestId: string },
): RequestIdentity | undefined {
  const { requestId } = request;
  if (requestId === "") return undefined;
  if (!/^[\x21-\x7e]{1,128}$/.test(requestId)) {
    throw invalid("request_id must be at most 128 visible ASCII characters, a UUID for example");
  }
  const digest = createHash("sha256")
    .update(`${schema.typeName}\n`)
    .update(toBinary(schema, { ...request, requestId: "" }))
    .digest();
  return { requestId, digest };
}
