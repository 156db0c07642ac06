/** Who calls, as the server behind a proxy reads it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { headersToRemove, identityHeaderNames, identityHeaders } from "../../src/auth/identity-headers.ts";
import type { Principal } from "../../src/auth/principal.ts";

const ada: Principal = {
  userId: 7n,
  username: "ada",
  isStaff: false,
  credentialKind: "api_key",
  apiKeyId: "01890a5d-ac96-774b-bcce-b302099a8057",
  canVerify: false,
};

test("a principal is told whole", () => {
  assert.deepEqual(identityHeaders(ada), {
    "x-latchkey-user-id": "7",
    "x-latchkey-username": "ada",
    "x-latchkey-is-staff": "false",
    "x-latchkey-credential-kind": "api_key",
    "x-latchkey-api-key-id": "01890a5d-ac96-774b-bcce-b302099a8057",
  });
});

test("an anonymous caller has none, and who has no API key no key's id", () => {
  assert.deepEqual(identityHeaders(undefined), {});
  const names = Object.keys(identityHeaders({ ...ada, credentialKind: "secret_key", apiKeyId: undefined }));
  assert.ok(!names.includes("x-latchkey-api-key-id"));
  assert.deepEqual(
    Object.keys(identityHeaders(ada)).sort(),
    [...identityHeaderNames].sort(),
    "those who remove what is forged know all names",
  );
});

test("a username beyond ASCII can be a header, and be read back", () => {
  const told = identityHeaders({ ...ada, username: "zoë+été@例.jp" })["x-latchkey-username"] ?? "";
  assert.match(told, /^[\x21-\x7e]+$/);
  assert.equal(decodeURIComponent(told), "zoë+été@例.jp");
});

for (const [name, value, removed] of [
  ["x-api-key", "lk_x", true],
  ["x_api_key", "lk_x", true],
  ["authorization", "Bearer lk_x", true],
  ["authorization", "bearer", true],
  ["authorization", "Basic eDp5,Bearer lk_x", true],
  ["authorization", "Basic eDp5", false],
  ["authorization", "Bearerish x", false],
  ["x-latchkey-user-id", "1", false],
  ["x_latchkey_user_id", "1", true],
  ["x-latchkey_user-id", "1", true],
  ["x-latchkey-anything", "1", true],
  ["x-request-id", "1", false],
] as const) {
  test(`${name}: ${value} ${removed ? "does not reach" : "reaches, or is overwritten before,"} the server behind`, () => {
    const remove = headersToRemove(new Map([[name, value]]), identityHeaders(ada), "x-api-key");
    assert.deepEqual(remove, removed ? [name] : []);
  });
}

test("of an anonymous caller's request every identity header is removed", () => {
  const remove = headersToRemove(new Map([["x-latchkey-user-id", "1"]]), {}, "x-api-key");
  assert.deepEqual(remove.sort(), [...identityHeaderNames].sort());
});
