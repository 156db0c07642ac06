/** Which methods the patterns of a key's allowed methods cover. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { matchesAny } from "../../src/auth/method-pattern.ts";

const service = "api.users.UserService";
const method = "GetUser";

for (const [patterns, expected] of [
  [["api.users.UserService/GetUser"], true],
  [["api.users.UserService/*"], true],
  [["api.users.*"], true],
  [["api.*"], true],
  [["*"], true],
  [["api.users.UserService/DeleteUser", "api.users.UserService/GetUser"], true],
  [["nonsense", "*"], true],
  [[], false],
  [["api.users.UserService/DeleteUser"], false],
  [["api.users.UserService/GetUse"], false],
  [["api.users.UserService/GetUsers"], false],
  [["api.users.UserService/getUser"], false],
  [["API.users.UserService/GetUser"], false],
  [["/api.users.UserService/GetUser"], false],
  [["api.users.UserService.GetUser"], false],
  [["api.users.UserService"], false],
  [["UserService/*"], false],
  [["UserService/GetUser"], false],
  [["GetUser"], false],
  [["api.users.UserServic/*"], false],
  [["api.users.UserService2/*"], false],
  [["api.users/*"], false],
  [["api.user.*"], false],
  [["api.users.UserService.*"], false],
  [["users.*"], false],
  // A pattern of no known form covers nothing, however much it looks like one.
  [[""], false],
  [["/*"], false],
  [[".*"], false],
  [["**"], false],
  [["*/*"], false],
  [["*/GetUser"], false],
  [["*.*"], false],
  [["*.UserService/GetUser"], false],
  [["api.*.UserService/GetUser"], false],
  [["api.*/GetUser"], false],
  [["api.users.*/GetUser"], false],
  [["api.users.*/*"], false],
  [["api.users*"], false],
  [["api.users.UserService/Get*"], false],
  [["api.users.UserService/*User"], false],
  [["api.users.UserService/**"], false],
  [[" api.users.UserService/*"], false],
  [["api.users.UserService/* "], false],
  [["api.users.UserService/GetUser,*"], false],
  // A dot is a dot.
  [["api?users.UserService/*"], false],
  [["apixusers.UserService/GetUser"], false],
] as const) {
  test(`${JSON.stringify(patterns)} ${expected ? "covers" : "leaves out"} ${service}/${method}`, () => {
    assert.equal(matchesAny(patterns, service, method), expected);
  });
}

test("a package's pattern stops at the dot", () => {
  assert.equal(matchesAny(["api.users.*"], "api.usersadmin.Service", "Get"), false);
  assert.equal(matchesAny(["api.users.*"], "api.users", "Get"), false);
  assert.equal(matchesAny(["api.users.*"], "api.users.v2.UserService", "Get"), true);
});

test("a service without a package is covered by its name and by *", () => {
  assert.equal(matchesAny(["Greeter/*"], "Greeter", "Greet"), true);
  assert.equal(matchesAny(["Greeter/Greet"], "Greeter", "Greet"), true);
  assert.equal(matchesAny(["*"], "Greeter", "Greet"), true);
  assert.equal(matchesAny(["Greeter.*", ".*", "/*"], "Greeter", "Greet"), false);
});
