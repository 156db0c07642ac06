/** What a method requires: by the list, by its own option, by its service's, by default. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AccessRequirement, createPolicy, declaredAccess } from "../../src/auth/policy.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { ApiKeyService } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { compileTableServices, methodOf } from "./table-services.ts";

const services = compileTableServices();

/** By service: what is declared, then what is required without and with requireAuth. */
const declared: Readonly<
  Record<string, readonly [AccessRequirement | undefined, AccessRequirement, AccessRequirement]>
> = {
  Undeclared: [undefined, "optional", "authenticated"],
  Public: ["public", "public", "public"],
  Optional: ["optional", "optional", "optional"],
  Authenticated: ["authenticated", "authenticated", "authenticated"],
  Staff: ["staff", "staff", "staff"],
  ServiceStaff: ["staff", "staff", "staff"],
  Unspecified: ["staff", "staff", "staff"],
  Overridden: ["optional", "optional", "optional"],
};

for (const [name, [own, without, withRequireAuth]] of Object.entries(declared)) {
  test(`a method of ${name} declares ${own ?? "nothing"}: ${without}, with requireAuth ${withRequireAuth}`, () => {
    const optional = createPolicy({ requireAuth: false, publicMethods: [] });
    const required = createPolicy({ requireAuth: true, publicMethods: [] });
    for (const kind of ["Unary", "Down", "Up", "Both"] as const) {
      const method = methodOf(services[name], kind);
      assert.equal(declaredAccess(method), own);
      // Twice: what was worked out once must stay so.
      for (let i = 0; i < 2; i++) {
        assert.equal(optional.of(method), without);
        assert.equal(required.of(method), withRequireAuth);
      }
    }
  });
}

for (const [name, publicMethods, unary, down] of [
  ["no list", [], "staff", "staff"],
  ["the method", ["test.access.Staff/Unary"], "public", "staff"],
  ["the service", ["test.access.Staff/*"], "public", "public"],
  ["another method", ["test.access.Staff/Down"], "staff", "public"],
  ["another service", ["test.access.Public/*"], "staff", "staff"],
  ["a service whose name begins so", ["test.access.Staf/*", "test.access.StaffOnly/*"], "staff", "staff"],
  ["the method in another case", ["test.access.Staff/unary", "test.access.staff/*"], "staff", "staff"],
  [
    "several",
    ["test.access.Public/Unary", "test.access.Staff/Down", "test.access.Staff/Unary"],
    "public",
    "public",
  ],
  // The list takes no wider pattern than a service: nothing is opened by accident.
  ["everything", ["*", "*/*", "test.access.*", "test.*"], "staff", "staff"],
] as const) {
  test(`with ${name} public, STAFF methods require ${unary} and ${down}`, () => {
    const policy = createPolicy({ requireAuth: true, publicMethods });
    assert.equal(policy.of(methodOf(services.Staff, "Unary")), unary);
    assert.equal(policy.of(methodOf(services.Staff, "Down")), down);
  });
}

for (const [name, without, withRequireAuth] of [
  ["Undeclared", "optional", "authenticated"],
  ["Public", "public", "public"],
  ["Optional", "optional", "optional"],
  ["Authenticated", "authenticated", "authenticated"],
  ["Staff", "staff", "staff"],
  ["Listed", "public", "public"],
  ["Overridden", "optional", "optional"],
] as const) {
  test(`a mounted method of ${name} requires the same by its name: ${without}, with requireAuth ${withRequireAuth}`, () => {
    for (const [requireAuth, expected] of [
      [false, without],
      [true, withRequireAuth],
    ] as const) {
      const policy = createPolicy({ requireAuth, publicMethods: ["test.access.Listed/*"] });
      const method = methodOf(services[name], "Unary");
      assert.equal(policy.of(method), expected);
      assert.equal(policy.named({ service: `test.access.${name}`, name: "Unary" }), expected);
    }
  });
}

test("a method of another server needs a principal, unless it is listed as public", () => {
  for (const requireAuth of [false, true]) {
    const policy = createPolicy({ requireAuth, publicMethods: ["other.Open/*", "other.Mixed/Get"] });
    // Mounted, and of another name.
    policy.of(methodOf(services.Public, "Unary"));
    for (const [service, name, expected] of [
      ["other.Open", "Any", "public"],
      ["other.Mixed", "Get", "public"],
      ["other.Mixed", "Put", "authenticated"],
      ["other.Closed", "Get", "authenticated"],
      ["test.access.Public", "unary", "authenticated"],
      ["test.access.Public", "Down", "authenticated"],
      ["", "", "authenticated"],
    ] as const) {
      assert.equal(policy.named({ service, name }), expected, `${service}/${name}`);
    }
  }
});

test("methods of one name in two services are held apart", () => {
  const policy = createPolicy({ requireAuth: true, publicMethods: ["test.access.Undeclared/Unary"] });
  assert.equal(policy.of(methodOf(services.Staff, "Unary")), "staff");
  assert.equal(policy.of(methodOf(services.Undeclared, "Unary")), "public");
  assert.equal(policy.of(methodOf(services.Authenticated, "Unary")), "authenticated");
});

test("the services that Latchkey brings declare who may call each of their methods", () => {
  const requirements = [UserService, ApiKeyService].flatMap((service) =>
    service.methods.map((method) => [`${service.typeName}/${method.name}`, declaredAccess(method)]),
  );
  assert.deepEqual(
    Object.fromEntries(requirements.filter(([name]) => String(name).startsWith("api.users."))),
    {
      "api.users.UserService/GetUser": "optional",
      "api.users.UserService/UpdateProfile": "authenticated",
      "api.users.UserService/CreateUser": "staff",
      "api.users.UserService/DeleteUser": "staff",
      "api.users.UserService/ListUsers": "optional",
    },
  );
  for (const [name, requirement] of requirements) assert.notEqual(requirement, undefined, name);
  for (const method of ApiKeyService.methods) {
    // No key is reached without a principal.
    assert.match(declaredAccess(method) ?? "", /^(authenticated|staff)$/, method.name);
  }
});
