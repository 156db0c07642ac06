/** What a proxy's own request tells of the one that it asks about. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { clientAddress, readCalledMethod, readHeaders } from "../../src/auth/forwarded-request.ts";

test("headers that came several times are joined, and none of them is lost", () => {
  const sent = readHeaders([
    "Authorization",
    "Bearer a",
    "authorization",
    "Bearer b",
    "X-A",
    "1",
    "x-a",
    "1",
    "cookie",
    "a=1",
    "cookie",
    "b=2",
  ]);
  assert.deepEqual(
    [...sent],
    [
      ["authorization", "Bearer a, Bearer b"],
      ["x-a", "1, 1"],
      ["cookie", "a=1; b=2"],
    ],
  );
});

const rpc = "/a.B/C";
for (const [headers, query, expected] of [
  [["x-original-uri", rpc], {}, "a.B/C"],
  [["x-forwarded-uri", rpc], {}, "a.B/C"],
  [["x-original-url", `https://host:8443${rpc}?q=1`], {}, "a.B/C"],
  [["x-original-uri", rpc, "x-forwarded-uri", rpc], {}, "a.B/C"],
  [["X-Original-URI", rpc, "x-original-uri", rpc], {}, "a.B/C"],
  [["x-forwarded-uri", "/x", "x-forwarded-method", "GET"], { service: "invoices" }, "invoices/GET"],
  [["x-original-uri", "/x", "x-original-method", "PUT"], { service: "invoices" }, "invoices/PUT"],
  [["x-original-uri", "/x"], { service: "invoices", method: "List" }, "invoices/List"],
  // The caller's own beside the proxy's.
  [["x-original-uri", rpc, "x-forwarded-uri", "/a.B/D"], {}, "ambiguous"],
  [["x-original-uri", rpc, "x-original-url", "http://host/a.B/D"], {}, "ambiguous"],
  [["x-original-uri", rpc, "x-original-uri", "/a.B/D"], {}, "ambiguous"],
  [["x-original-uri", `${rpc} ${rpc}`], {}, "ambiguous"],
  [
    ["x-original-method", "GET", "x-forwarded-method", "PUT", "x-original-uri", "/x"],
    { service: "s" },
    "ambiguous",
  ],
  [
    ["x-original-method", "GET", "x-original-method", "PUT", "x-original-uri", "/x"],
    { service: "s" },
    "ambiguous",
  ],
  [["x-original-url", "http://host?/a.B/C"], {}, "ambiguous"],
  [["x-original-url", "http://host"], {}, "ambiguous"],
  [["x-original-uri", `http://host${rpc}`], {}, "ambiguous"],
  // The proxy's configuration.
  [[], {}, "untold"],
  [["x-original-method", "GET"], {}, "untold"],
  [["x-original-uri", "/x"], { service: "invoices" }, "untold"],
  [["x-original-uri", rpc, "x-original-method", "GET"], { service: "in/voices" }, "bad_name"],
  [["x-original-uri", rpc], { service: ["a", "b"] }, "bad_name"],
  [["x-original-uri", rpc], { method: "Get" }, "bad_name"],
] as const) {
  test(`${JSON.stringify(headers)} with ${JSON.stringify(query)} is ${expected}`, () => {
    const called = readCalledMethod(readHeaders(headers), query);
    assert.equal(typeof called === "string" ? called : `${called.service}/${called.name}`, expected);
  });
}

const isTrusted = (address: string) => address.startsWith("10.") || address === "::1";
for (const [forwardedFor, expected] of [
  ["203.0.113.7", "203.0.113.7"],
  ["198.51.100.1, 203.0.113.7", "203.0.113.7"],
  ["203.0.113.7, 10.0.0.1", "203.0.113.7"],
  ["1.2.3.4,203.0.113.7,10.0.0.1 , ::1", "203.0.113.7"],
  ["10.0.0.2, 10.0.0.1", "10.0.0.2"],
  ["203.0.113.7:4711", "203.0.113.7"],
  ["[2001:db8::7]:4711", "2001:db8::7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["203.0.113.7, unknown", undefined],
  ["203.0.113.7, ", undefined],
  ["", undefined],
  [undefined, undefined],
] as const) {
  test(`x-forwarded-for: ${forwardedFor} came from ${expected}`, () => {
    assert.equal(clientAddress(forwardedFor, isTrusted), expected);
  });
}
