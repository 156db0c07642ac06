/** Which method a proxied request calls, and under which name it is logged. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { calledMethod, createNameLedger } from "../../src/auth/called-method.ts";
import type { MethodName } from "../../src/auth/method-name.ts";
import type { DenialReason, Verdict } from "../../src/auth/verdict.ts";

function called(target: string, named: { service?: string; method?: string; verb?: string } = {}): string {
  const { service = "", method = "", verb = "POST" } = named;
  const found = calledMethod({ target, verb, namedService: service, namedMethod: method });
  return typeof found === "string" ? found : `${found.service}/${found.name}`;
}

for (const [target, expected] of [
  ["/billing.v1.InvoiceService/Pay", "billing.v1.InvoiceService/Pay"],
  ["/Greeter/SayHello", "Greeter/SayHello"],
  ["/billing.v1.InvoiceService/Pay?connect=v1&message=%7B%7D", "billing.v1.InvoiceService/Pay"],
  ["/billing.v1.InvoiceService/Pay#there", "billing.v1.InvoiceService/Pay"],
  // No method, and nothing that a lenient server would take for one.
  ["/", "/"],
  ["/index.html", "/"],
  ["/v1/invoices/42", "/"],
  ["/api/billing.v1.InvoiceService/Pay", "/"],
  ["/assets/app.js", "/"],
  ["/%zz", "/"],
  [`/a.B/${"x".repeat(600)}`, "/"],
  // One here, and another for a server that decodes, resolves, trims or merges.
  ["/billing.v1.InvoiceService/%50ay", "ambiguous"],
  ["/billing.v1.InvoiceService/%2550ay", "ambiguous"],
  ["/billing.v1.InvoiceService%2FPay", "ambiguous"],
  ["/billing.v1.InvoiceService%5cPay", "ambiguous"],
  ["/billing.v1.InvoiceService\\Pay", "ambiguous"],
  ["//billing.v1.InvoiceService/Pay", "ambiguous"],
  ["/billing.v1.InvoiceService//Pay", "ambiguous"],
  ["/billing.v1.InvoiceService/Pay/", "ambiguous"],
  ["/./billing.v1.InvoiceService/Pay", "ambiguous"],
  ["/open.v1.Status/../billing.v1.InvoiceService/Pay", "ambiguous"],
  ["/open.v1.Status/Get/../../billing.v1.InvoiceService/Pay", "ambiguous"],
  ["/open/%2e%2e/billing.v1.InvoiceService/Pay", "ambiguous"],
  ["/billing.v1.InvoiceService//../Pay", "ambiguous"],
  ["/invoices/..;/billing.v1.InvoiceService/Pay", "ambiguous"],
  ["/..", "ambiguous"],
  ["/billing.v1.InvoiceService/Pay;v=1", "ambiguous"],
  ["/billing.v1.InvoiceService;a/Pay", "ambiguous"],
  ["/billing.v1.InvoiceService/Pay%20", "ambiguous"],
  ["/billing.v1.InvoiceService/Pay%3Fx", "ambiguous"],
  ["/billing.v1.InvoiceService/Pay%00", "ambiguous"],
  // No path at all.
  ["billing.v1.InvoiceService/Pay", "ambiguous"],
  ["http://host/billing.v1.InvoiceService/Pay", "ambiguous"],
  ["?/billing.v1.InvoiceService/Pay", "ambiguous"],
  ["*", "ambiguous"],
  ["", "ambiguous"],
] as const) {
  test(`the path ${JSON.stringify(target).slice(0, 70)} calls ${expected}`, () => {
    assert.equal(called(target), expected);
  });
}

test("a path is a method's only as it stands: whatever else is made of it is refused", () => {
  const parts = fc.constantFrom(
    "/",
    "//",
    ".",
    "..",
    "%2f",
    "%2e",
    "\\",
    ";x",
    "a.B",
    "C",
    "%43",
    "%",
    " ",
    "?",
    "#",
  );
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 8 }), (made) => {
      const target = `/${made.join("")}`;
      const found = called(target);
      const [path] = target.split(/[?#]/);
      if (found !== "ambiguous" && found !== "/") assert.equal(`/${found}`, path);
      // What a web server makes of it that decodes, and merges slashes.
      const { pathname } = new URL(`http://host${target}`);
      const lenient = unescape(pathname);
      if (found === "/") assert.doesNotMatch(lenient.replaceAll(/\/+/g, "/"), /^\/a\.B\/C$/);
    }),
    { numRuns: 5000 },
  );
});

for (const [named, expected] of [
  [{ service: "invoices", verb: "GET" }, "invoices/GET"],
  [{ service: "billing.v1.Invoices", verb: "DELETE" }, "billing.v1.Invoices/DELETE"],
  [{ service: "invoices", method: "List", verb: "GET" }, "invoices/List"],
  [{ service: "invoices", verb: "M-SEARCH" }, "ambiguous"],
  [{ service: "invoices", verb: "GET /x" }, "ambiguous"],
  [{ service: "in voices" }, "bad_name"],
  [{ service: "invoices/" }, "bad_name"],
  [{ service: "invoices", method: "a b" }, "bad_name"],
  [{ method: "List" }, "bad_name"],
] as const) {
  test(`a proxy that names ${JSON.stringify(named)} makes it ${expected}, whatever the path`, () => {
    assert.equal(called("/billing.v1.InvoiceService/Pay", named), expected);
    assert.equal(called("/%2e%2e//x", named), expected);
  });
}

const verdictOf = (userId: bigint | undefined, denial?: DenialReason): Verdict => ({
  denial,
  principal:
    userId === undefined || denial === "REVOKED"
      ? undefined
      : {
          ...{ userId, username: "u", isStaff: false, credentialKind: "api_key" },
          ...{ apiKeyId: undefined, canVerify: false },
        },
  subject: userId === undefined ? undefined : { userId, apiKeyId: undefined },
  credentialKind: userId === undefined ? "none" : "api_key",
});
const method = (name: string): MethodName => ({ service: "a.B", name });

test("only callers with a good key introduce a name into the log; then it is there for all", () => {
  const logged = createNameLedger(({ name }) => name === "Mounted");
  assert.deepEqual(logged(method("Made"), verdictOf(undefined)), { service: "", name: "" });
  assert.deepEqual(logged(method("Made"), verdictOf(1n, "REVOKED")), { service: "", name: "" });
  assert.deepEqual(logged(method("Denied"), verdictOf(1n, "METHOD_NOT_ALLOWED")), method("Denied"));
  assert.deepEqual(logged(method("Mounted"), verdictOf(undefined)), method("Mounted"));
  assert.deepEqual(logged(method("Get"), verdictOf(1n)), method("Get"));
  assert.deepEqual(logged(method("Get"), verdictOf(undefined)), method("Get"));
});

test("a user introduces no more names than a quarter of the bound, and all together no more than that", () => {
  const logged = createNameLedger(() => false, 8);
  const of = (user: bigint, names: string[]) =>
    names.map((name) => logged(method(name), verdictOf(user)).name);
  assert.deepEqual(of(1n, ["A", "B", "C", "A", "C"]), ["A", "B", "", "A", ""]);
  assert.deepEqual(of(2n, ["A", "C", "D", "E"]), ["A", "C", "D", ""]);
  assert.deepEqual(of(3n, ["F", "G"]), ["F", "G"]);
  assert.deepEqual(of(4n, ["H", "I"]), ["H", "I"]);
  assert.deepEqual(of(5n, ["J", "A"]), ["", "A"]);
});
