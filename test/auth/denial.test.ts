/** How each refusal is told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { denialError } from "../../src/auth/denial.ts";
import type { DenialReason } from "../../src/auth/verdict.ts";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";

const sinceMs = Date.UTC(2026, 1, 3, 4, 5, 6, 789);
const since = "2026-02-03T04:05:06.789Z";

function tell(denial: DenialReason, deniedSinceMs?: number, apiKeyHeader = "x-api-key") {
  const subject = { userId: 424242n, apiKeyId: "01890000-0000-7000-8000-000000000001" };
  const principal = {
    ...subject,
    username: "zoe-smith",
    isStaff: false,
    canVerify: false,
    credentialKind: "api_key" as const,
  };
  return denialError({ denial, deniedSinceMs, subject, principal, credentialKind: "api_key" }, apiKeyHeader);
}

const missing =
  "this method needs an API key: send its token in the x-api-key header, or as authorization: Bearer";
const invalidToken = 'Bearer error="invalid_token"';

for (const [denial, code, reason, message, wwwAuthenticate, metadata] of [
  ["MISSING", Code.Unauthenticated, "MISSING", missing, "Bearer", {}],
  ["MALFORMED", Code.Unauthenticated, "INVALID_API_KEY", "invalid API key", invalidToken, {}],
  ["UNKNOWN", Code.Unauthenticated, "INVALID_API_KEY", "invalid API key", invalidToken, {}],
  [
    "REVOKED",
    Code.Unauthenticated,
    "REVOKED",
    `this API key was revoked at ${since}`,
    invalidToken,
    { since },
  ],
  ["EXPIRED", Code.Unauthenticated, "EXPIRED", `this API key expired at ${since}`, invalidToken, { since }],
  [
    "USER_DISABLED",
    Code.Unauthenticated,
    "USER_DISABLED",
    "the user of this API key is disabled",
    invalidToken,
    {},
  ],
  [
    "STAFF_REQUIRED",
    Code.PermissionDenied,
    "STAFF_REQUIRED",
    "this method needs a staff user's API key",
    null,
    {},
  ],
  [
    "METHOD_NOT_ALLOWED",
    Code.PermissionDenied,
    "METHOD_NOT_ALLOWED",
    "this API key may not call this method",
    null,
    {},
  ],
  [
    "ADDRESS_NOT_ALLOWED",
    Code.PermissionDenied,
    "ADDRESS_NOT_ALLOWED",
    "this API key may not be used from this address",
    null,
    {},
  ],
  [
    "UNAVAILABLE",
    Code.Unavailable,
    "UNAVAILABLE",
    "the API key could not be checked just now: try again",
    null,
    {},
  ],
] as const) {
  test(`${denial} is told as ${Code[code]} with the reason ${reason}`, () => {
    const error = tell(denial, "since" in metadata ? sinceMs : undefined);
    assert.equal(error.code, code);
    assert.equal(error.rawMessage, message);
    assert.equal(error.metadata.get("www-authenticate"), wwwAuthenticate);
    const infos = error.findDetails(ErrorInfoSchema);
    assert.deepEqual(
      infos.map((info) => [info.reason, info.domain, info.metadata]),
      [[reason, "latchkey", metadata]],
    );
    assert.equal(error.details.length, 1);
  });
}

test("a malformed and an unknown key are told alike to the last byte", () => {
  const [one, other] = (["MALFORMED", "UNKNOWN"] as const).map((denial) => {
    const error = tell(denial);
    return {
      ...error,
      stack: undefined,
      metadata: [...error.metadata],
      details: error.findDetails(ErrorInfoSchema),
    };
  });
  assert.deepEqual(one, other);
});

test("no refusal tells who the caller is", () => {
  for (const denial of [
    "MISSING",
    "MALFORMED",
    "UNKNOWN",
    "REVOKED",
    "EXPIRED",
    "USER_DISABLED",
    "STAFF_REQUIRED",
    "METHOD_NOT_ALLOWED",
    "ADDRESS_NOT_ALLOWED",
    "UNAVAILABLE",
  ] as const) {
    const error = tell(denial, sinceMs);
    const told = JSON.stringify([error.rawMessage, [...error.metadata], error.findDetails(ErrorInfoSchema)]);
    assert.doesNotMatch(told, /zoe|424242|01890000/, denial);
  }
});

test("a missing key is asked for in the header that is configured", () => {
  assert.match(tell("MISSING", undefined, "x-acme-key").rawMessage, /in the x-acme-key header/);
});
