/** Pages: sizes, and the tokens that lead from one to the next. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ApiKeyType, ListApiKeysRequestSchema } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { ListRequestLogsRequestSchema } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { readPage } from "../../src/rpc/page.ts";

const sizes = { fallback: 50, most: 500 };
const read = (request: MessageInitShape<typeof ListApiKeysRequestSchema>) =>
  readPage(ListApiKeysRequestSchema, create(ListApiKeysRequestSchema, request), sizes);

for (const [asked, given] of [
  [0, 50],
  [1, 1],
  [50, 50],
  [499, 499],
  [500, 500],
  [501, 500],
  [2 ** 31 - 1, 500],
] as const) {
  test(`a page size of ${asked} is ${given}`, () => {
    const page = read({ pageSize: asked });
    assert.equal(page.size, given);
    assert.equal(page.cursor, undefined);
  });
}

for (const pageSize of [-1, -500, -(2 ** 31)]) {
  test(`a page size of ${pageSize} is refused`, () => {
    assert.throws(() => read({ pageSize }), {
      code: Code.InvalidArgument,
      rawMessage: "page_size must not be negative: 0 means 50, at most 500 are returned",
    });
  });
}

test("a token brings back the cursor that it was made of, whatever that holds", () => {
  for (const cursor of [["a"], ["2026-01-02T03:04:05.678Z", "id"], ["", 'ä\0"\\🗝']]) {
    const pageToken = read({ userId: 7n }).tokenAfter(...cursor);
    assert.match(pageToken, /^[\w-]+$/, "it must pass through a URL as it is");
    assert.deepEqual(read({ userId: 7n, pageToken }).cursor, cursor);
    // The size may change from page to page; the token of the page before is no filter either.
    assert.deepEqual(read({ userId: 7n, pageSize: 3, pageToken }).cursor, cursor);
    assert.equal(read({ userId: 7n, pageToken }).tokenAfter(...cursor), pageToken);
  }
});

test("a token is good for its own listing and filters alone", () => {
  const pageToken = read({ userId: 7n }).tokenAfter("cursor");
  const expected = { code: Code.InvalidArgument, rawMessage: /^page_token is not one of this listing/ };
  for (const filters of [{}, { userId: 8n }, { userId: 7n, type: ApiKeyType.CLI }]) {
    assert.throws(() => read({ ...filters, pageToken }), expected);
  }
  // The same bytes, of another message.
  const request = create(ListRequestLogsRequestSchema, { filter: { userId: 7n }, pageToken });
  assert.throws(() => readPage(ListRequestLogsRequestSchema, request, sizes), expected);
});

test("what was never given out is refused", () => {
  const [filters] = JSON.parse(Buffer.from(read({}).tokenAfter("x"), "base64url").toString());
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  for (const pageToken of [
    "x",
    " ",
    "%",
    "\0",
    "[]",
    encode([]),
    encode([filters]),
    encode({ 0: filters, length: 1 }),
    encode(filters),
    encode([filters, 1]),
    encode([filters, null]),
    encode([filters, ["x"]]),
    encode(["", "x"]),
    encode(null),
    "A".repeat(100_000),
  ]) {
    assert.throws(() => read({ pageToken }), { code: Code.InvalidArgument }, pageToken.slice(0, 50));
  }
});
