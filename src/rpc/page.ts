/** Pages of a listing: their size, and the tokens that lead from one to the next. */
import { createHash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

/** A request for a page. */
interface PageRequest {
  pageSize: number;
  pageToken: string;
}

export interface Page {
  readonly size: number;
  /** Where the page before ended; undefined: the first page. */
  readonly cursor: readonly string[] | undefined;
  /** The token for what follows a row. */
  tokenAfter(...cursor: string[]): string;
}

/**
 * Reads which page a request asks for. A token holds its listing's filters as a
 * digest. Throws `invalid_argument` for a negative page size and for a token that
 * was not given for these filters.
 */
export function readPage<Desc extends DescMessage>(
  schema: Desc,
  request: MessageShape<Desc> & PageRequest,
  sizes: { fallback: number; most: number },
): Page {
  if (request.pageSize < 0) {
    throw new ConnectError(
      `page_size must not be negative: 0 means ${sizes.fallback}, at most ${sizes.most} are returned`,
      Code.InvalidArgument,
    );
  }
  const filters = createHash("sha256")
    .update(schema.typeName)
    .update(toBinary(schema, { ...request, pageSize: 0, pageToken: "" }))
    .digest("base64url")
    .slice(0, 12);
  return {
    size: Math.min(request.pageSize || sizes.fallback, sizes.most),
    cursor: request.pageToken === "" ? undefined : decode(request.pageToken, filters),
    tokenAfter: (...cursor) => Buffer.from(JSON.stringify([filters, ...cursor])).toString("base64url"),
  };
}

/**
 * The id at which the page before ended, of a listing whose cursor is one id;
 * undefined: the first page. Throws `invalid_argument` for a token made by hand.
 */
export function readIdCursor({ cursor }: Page): bigint | undefined {
  if (cursor === undefined) return undefined;
  const [id = ""] = cursor;
  if (!/^[1-9][0-9]{0,18}$/.test(id) || BigInt(id) >= 2n ** 63n) {
    throw new ConnectError("page_token is damaged: start again without one", Code.InvalidArgument);
  }
  return BigInt(id);
}

function decode(token: string, filters: string): string[] {
  const [of, ...cursor] = parse(token);
  if (of !== filters || cursor.length === 0) {
    throw new ConnectError(
      "page_token is not one of this listing: pass next_page_token of the page before with the same filters, or none",
      Code.InvalidArgument,
    );
  }
  return cursor;
}

function parse(token: string): string[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : [];
  } catch {
    return [];
  }
}
