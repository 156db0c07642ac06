/** What a request's fields hold is read or refused as invalid_argument: nothing else comes of it. */
import assert from "node:assert/strict";
import { isIP } from "node:net";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { formatAddressRange } from "../../src/auth/address-range.ts";
import { beginCall, endCall } from "../../src/auth/call.ts";
import type { Principal } from "../../src/auth/principal.ts";
import {
  CreateApiKeyRequestSchema,
  ListApiKeysRequestSchema,
} from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { RequestLogFilterSchema } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { readCursor, readFilter } from "../../src/logs/read-filter.ts";
import { readMask } from "../../src/rpc/field-mask.ts";
import { readIdCursor, readPage } from "../../src/rpc/page.ts";
import { readRequestId } from "../../src/rpc/request-id.ts";
import { checkAll, checkMutants, pick } from "./fuzz.ts";

/** What was read; undefined where it was refused, which says whose fault it is. */
function readOrRefuse<T>(read: () => T, ...also: Code[]): T | undefined {
  try {
    return read();
  } catch (error) {
    assert.ok(error instanceof ConnectError, `not a refusal: ${error}`);
    assert.ok([Code.InvalidArgument, ...also].includes(error.code), error.message);
    assert.ok(error.rawMessage.length < 700, "a refusal repeats little of what came");
    return undefined;
  }
}

const sizes = { fallback: 50, most: 500 };
const pageOf = (userId: bigint, pageToken = "") =>
  readPage(ListApiKeysRequestSchema, create(ListApiKeysRequestSchema, { userId, pageToken }), sizes);
const given = ["42", "9223372036854775807", "2026-01-02T03:04:05.678901Z"].map((cursor) =>
  pageOf(7n).tokenAfter(cursor, "01890a5d-ac96-774b-bcce-b302099a8057"),
);
const ofOthers = [1n, 2n, 8n].map((userId) => pageOf(userId).tokenAfter("42"));
const json = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("a page token is read as a place in its own listing, or refused", (t) => {
  const corpus = [...given, ...ofOthers, json(["", ""]), json({}), json([1, null]), json("x")];
  checkMutants(t, 60_000, corpus, (pageToken) => {
    const page = readOrRefuse(() => pageOf(7n, pageToken));
    if (page?.cursor === undefined) return;
    assert.ok(!ofOthers.includes(pageToken), "another listing's");
    assert.ok(page.cursor.length > 0 && page.cursor.every((part) => typeof part === "string"));
    const id = readOrRefuse(() => readIdCursor(page));
    if (id !== undefined) assert.ok(id > 0n && id < 2n ** 63n);
    const place = readOrRefuse(() => readCursor(page.cursor ?? []));
    if (place !== undefined) assert.ok(!Number.isNaN(Date.parse(place.time)), place.time);
  });
});

test("a cursor's time is one that Postgres has", (t) => {
  const times = ["2026-01-02T03:04:05.678901Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"];
  checkMutants(t, 60_000, times, (time) => {
    const place = readOrRefuse(() => readCursor([time, "01890a5d-ac96-774b-bcce-b302099a8057"]));
    if (place !== undefined) assert.equal(new Date(place.time).toISOString().slice(0, 19), time.slice(0, 19));
  });
});

const someone: Principal = {
  userId: 7n,
  username: "ada",
  isStaff: false,
  credentialKind: "api_key",
  apiKeyId: "01890a5d-ac96-774b-bcce-b302099a8057",
  canVerify: false,
};
const texts = [
  "",
  "01890a5d-ac96-774b-bcce-b302099a8057",
  "api.users.UserService",
  "not_found",
  "ok",
  "grpc-web",
  "verify",
  "192.0.2.0/24",
  "2001:db8::/32",
  "constructor",
  "%' OR 1=1 --",
];
const int64 = fc.oneof(
  fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  fc.constantFrom(0n, 7n, -1n, 253_402_300_799n),
);
const nanos = fc.oneof(fc.integer(), fc.constantFrom(0, -1, 999_999_999, 999_999_500, 1_000_000_000));
const moment = fc.option(fc.record({ seconds: int64, nanos }), { nil: undefined });
const anyText = fc.oneof(fc.constantFrom(...texts), fc.string({ unit: "binary", maxLength: 30 }));

test("whatever a filter asks for, who is not staff sees its own rows, and every value is one that Postgres has", (t) => {
  let read = 0;
  const filters = fc.record({
    userId: fc.oneof(fc.constantFrom(0n, 7n), int64),
    apiKeyId: anyText,
    service: anyText,
    method: anyText,
    code: anyText,
    denialReason: fc.integer({ min: -2, max: 20 }),
    startTime: moment,
    endTime: moment,
    minDuration: moment,
    maxDuration: moment,
    protocol: anyText,
    peerAddress: anyText,
    errorText: anyText,
    traceId: anyText,
  });
  // One field at a time too: of thirteen that are odd, one nearly always refuses the rest.
  const some = fc
    .tuple(filters, fc.integer({ min: 1, max: 3 }), fc.nat(13))
    .map(([filter, count, from]) => Object.fromEntries(Object.entries(filter).slice(from, from + count)));
  checkAll(t, 60_000, fc.oneof(filters, some), (init) => {
    const message = create(RequestLogFilterSchema, init as never);
    const filter = readOrRefuse(() => readFilter(message, someone), Code.PermissionDenied);
    if (filter === undefined) return;
    read++;
    assert.equal(filter.userId, 7n);
    for (const value of Object.values(filter))
      if (typeof value === "string") assert.ok(!value.includes("\0"));
    for (const time of [filter.from, filter.until]) {
      if (time !== undefined) assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    }
    for (const us of [filter.minDurationUs, filter.maxDurationUs]) {
      if (us !== undefined) assert.ok(us >= 0n && us < 2n ** 63n);
    }
    if (filter.peerAddress !== undefined) {
      assert.notEqual(isIP(formatAddressRange(filter.peerAddress).split("/")[0] ?? ""), 0);
    }
    if (filter.code !== undefined) assert.ok(Number.isInteger(filter.code) && filter.code <= 16);
  });
  t.diagnostic(`${read} were read`);
  assert.ok(read > 1000);
});

test("a field mask names what can be changed, and nothing else", (t) => {
  const paths = ["name", "expires_at", "allowed_methods"] as const;
  checkMutants(t, 60_000, [...paths, "name,expires_at", "user_id", "*"], (path, random) => {
    const mask = create(FieldMaskSchema, { paths: [path, pick(random, paths)] });
    const named = readOrRefuse(() => readMask(mask, paths));
    if (named !== undefined) assert.ok([...named].every((name) => paths.includes(name)));
    assert.equal(named !== undefined, (paths as readonly string[]).includes(path));
  });
});

test("a request's own id is 1 to 128 visible characters, and the log's is of its letters or our own", (t) => {
  const ids = ["0c9a1de2-7f6b-4e7e-8f0e-4f1f3a0f8a11", "job:42", "a".repeat(128), "a\nb"];
  const method = { service: "a.B", name: "C" };
  checkMutants(t, 60_000, ids, (requestId) => {
    const message = create(CreateApiKeyRequestSchema, { requestId, userId: 7n });
    const wellFormed = requestId.isWellFormed();
    // Protobuf has no text that is not Unicode: none comes over the wire.
    const identity = wellFormed
      ? readOrRefuse(() => readRequestId(CreateApiKeyRequestSchema, message))
      : undefined;
    if (identity !== undefined) assert.match(identity.requestId, /^[\x21-\x7e]{1,128}$/);
    const call = beginCall({ method, protocol: "grpc", requestId, userAgent: requestId });
    assert.ok(
      /^[\w.:-]{1,128}$/.test(call.requestId) && (call.requestId === requestId || call.requestId === call.id),
    );
    const bytes = { requestBytes: 0, responseBytes: 0 };
    const ended = endCall(call, { code: 3, errorMessage: requestId, ...bytes });
    assert.ok(ended.userAgent.length <= 512 && (ended.errorMessage?.length ?? 0) <= 512);
  });
});
