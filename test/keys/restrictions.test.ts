/** The patterns and addresses that requests may name. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { matchesAny } from "../../src/auth/method-pattern.ts";
import { checkAddresses, checkMethodPatterns } from "../../src/keys/restrictions.ts";

const good = ["*", "a.*", "a.b.*", "a.B/*", "B/*", "a.B/C", "B/C", "_a1.b_2.C3/D4", `a.B/${"c".repeat(496)}`];

test("patterns are kept as they are and in their order, each once", () => {
  assert.deepEqual(checkMethodPatterns("f", []), []);
  assert.deepEqual(checkMethodPatterns("f", good), good);
  assert.deepEqual(checkMethodPatterns("f", ["b.*", "a.*", "b.*", "*"]), ["b.*", "a.*", "*"]);
  assert.equal(checkMethodPatterns("f", Array<string>(100).fill("a.*")).length, 1);
});

for (const bad of [
  "",
  " ",
  "a",
  "a.b",
  "*.a",
  "a*",
  "a.*.b",
  "a.**",
  "a.b.*/C",
  "a.B/C*",
  "a.B/*/",
  "/C",
  "/*",
  ".*",
  "a..b.*",
  ".a.*",
  "a./C",
  "a.B/",
  "/a.B/C",
  "a.B//C",
  "a.B/C/D",
  "1a.*",
  "a-b.*",
  "ä.*",
  "a.*\n",
  "a.B/C\0",
  ` a.*`,
  `a.B/${"c".repeat(497)}`,
]) {
  test(`no pattern, said by its index: ${JSON.stringify(bad.slice(0, 20))}`, () => {
    assert.throws(() => checkMethodPatterns("allowed_methods", ["*", "a.*", "a.B/C", bad]), {
      code: Code.InvalidArgument,
      rawMessage: /^allowed_methods\[3\] must be a method like /,
    });
  });
}

test("a pattern that is taken can match something", () => {
  const parts = fc.constantFrom("a", "b", "*", ".", "/", "_", "1");
  let taken = 0;
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 7 }), (list) => {
      const text = list.join("");
      try {
        checkMethodPatterns("f", [text]);
      } catch {
        return;
      }
      taken++;
      const [service = "", method = "m"] = text.replace(/\.\*$/, ".x").split("/");
      assert.ok(matchesAny([text], service, method === "*" ? "m" : method), text);
    }),
    { numRuns: 20_000 },
  );
  assert.ok(taken > 100, `${taken} were taken`);
});

test("addresses are put in normal form, each once", () => {
  for (const [given, stored] of [
    ["203.0.113.7", "203.0.113.7/32"],
    ["203.0.113.7/24", "203.0.113.0/24"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["2001:DB8:0:0::1", "2001:db8::1/128"],
    ["2001:db8::1/32", "2001:db8::/32"],
    ["::ffff:192.0.2.1", "192.0.2.1/32"],
  ] as const) {
    assert.deepEqual(checkAddresses("f", [given]), [stored]);
    // What is stored is read again as it is.
    assert.deepEqual(checkAddresses("f", [stored]), [stored]);
  }
  const same = ["10.0.0.1/8", "192.0.2.1", "10.2.3.4/8"];
  assert.deepEqual(checkAddresses("f", same), ["10.0.0.0/8", "192.0.2.1/32"]);
});

for (const bad of [
  "",
  "localhost",
  "10.0.0",
  "10.0.0.0/33",
  "10.0.0.0/",
  "::1/129",
  "fe80::1%eth0",
  "1.2.3.4\0",
]) {
  test(`no address, said by its index: ${JSON.stringify(bad)}`, () => {
    assert.throws(() => checkAddresses("allowed_addresses", ["::1", bad]), {
      code: Code.InvalidArgument,
      rawMessage: /^allowed_addresses\[1\] must be an IP address or a CIDR block/,
    });
  });
}

test("more than 100 entries are refused", () => {
  const many = (n: number, entry: string) => Array<string>(n).fill(entry);
  const refused = { code: Code.InvalidArgument, rawMessage: /^f must have at most 100 entries, not 101$/ };
  assert.throws(() => checkMethodPatterns("f", many(101, "*")), refused);
  assert.throws(() => checkAddresses("f", many(101, "::1")), refused);
  assert.equal(checkAddresses("f", many(100, "::1")).length, 1);
});
