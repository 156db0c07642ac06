/** Whether what one key can do lies within what another can. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isInRanges, parseAddressRange } from "../../src/auth/address-range.ts";
import { matchesAny } from "../../src/auth/method-pattern.ts";
import { coversPattern, excessOf, type Scope, unlimited } from "../../src/keys/scope.ts";

const exact = "a.b.Svc/Get";
const other = "a.b.Svc/Put";

for (const [outer, inner, covered] of [
  ["*", "*", true],
  ["*", "a.*", true],
  ["*", "a.b.Svc/*", true],
  ["*", exact, true],
  ["a.*", "*", false],
  ["a.*", "a.*", true],
  ["a.*", "a.b.*", true],
  ["a.*", "ab.*", false],
  ["a.*", "a.b.Svc/*", true],
  ["a.*", "ab.Svc/*", false],
  ["a.*", exact, true],
  ["a.b.*", "a.*", false],
  ["a.b.*", "a.b/Get", false],
  ["a.b.Svc/*", "*", false],
  ["a.b.Svc/*", "a.b.*", false],
  ["a.b.Svc/*", "a.b.Svc/*", true],
  ["a.b.Svc/*", "a.b.Svc2/*", false],
  ["a.b.Svc/*", exact, true],
  ["a.b.Svc/*", "a.b.Svc.x/Get", false],
  [exact, exact, true],
  [exact, other, false],
  [exact, "a.b.Svc/*", false],
] as const) {
  test(`${outer} ${covered ? "covers" : "does not cover"} ${inner}`, () => {
    assert.equal(coversPattern([outer], inner), covered);
    assert.equal(coversPattern(["z.*", outer], inner), covered);
  });
}

const scope = (part: Partial<Scope> & { at?: string[] }): Scope => {
  const { at = [], ...rest } = part;
  return { ...unlimited, canVerify: false, addresses: at.map((text) => parseAddressRange(text)!), ...rest };
};
const soon = new Date(1_800_000_000_000);
const later = new Date(1_800_000_000_001);

for (const [what, wanted, limit, excess] of [
  ["no list of methods is every method", {}, { methods: ["a.*"] }, /^allowed_methods: none means every/],
  ["no list of methods lies within *", {}, { methods: ["a.*", "*"] }, undefined],
  ["* lies within no list of methods", { methods: ["*"] }, {}, undefined],
  ["each pattern counts", { methods: ["a.*", "b.*"] }, { methods: ["a.*"] }, /^allowed_methods: b\.\*/],
  ["no list of addresses is anywhere", {}, { at: ["0.0.0.0/0", "::/0"] }, /^allowed_addresses: none means/],
  ["addresses lie within none", { at: ["10.0.0.0/8"] }, {}, undefined],
  ["a block within a block", { at: ["10.1.0.0/16"] }, { at: ["10.0.0.0/8"] }, undefined],
  [
    "a wider block",
    { at: ["10.0.0.0/8"] },
    { at: ["10.1.0.0/16"] },
    /not be used from all of 10\.0\.0\.0\/8/,
  ],
  ["IPv4 is not of IPv6", { at: ["10.0.0.0/8"] }, { at: ["::/0"] }, /^allowed_addresses/],
  ["IPv6 is not of IPv4", { at: ["2001:db8::/32"] }, { at: ["0.0.0.0/0"] }, /^allowed_addresses/],
  ["never outlives a time", {}, { expiresAt: soon }, /^expires_at: .* ends at 2027-01-15T08:00:00\.000Z/],
  ["a later end", { expiresAt: later }, { expiresAt: soon }, /^expires_at/],
  ["the same end", { expiresAt: soon }, { expiresAt: soon }, undefined],
  ["can_verify without having it", { canVerify: true }, {}, /^can_verify/],
  ["can_verify with having it", { canVerify: true }, { canVerify: true }, undefined],
] as const) {
  test(`a scope against its limit: ${what}`, () => {
    const found = excessOf(scope(wanted as Partial<Scope>), scope(limit as Partial<Scope>));
    if (excess === undefined) assert.equal(found, undefined);
    else assert.match(found ?? "", excess);
  });
}

/** Few names, so that what is drawn at random often has to do with one another. */
const names = fc.constantFrom("a", "b", "ab");
const service = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("."));
const pattern = fc.oneof(
  fc.constant("*"),
  service.map((name) => `${name}.*`),
  service.map((name) => `${name}/*`),
  fc.tuple(service, names).map(([name, method]) => `${name}/${method}`),
);
const byte = fc.constantFrom(0, 1, 127, 128, 255);
const address = fc.oneof(
  fc.tuple(byte, byte).map(([x, y]) => `10.0.${x}.${y}`),
  fc.tuple(byte, byte).map(([x, y]) => `2001:db8::${x.toString(16)}:${y.toString(16)}`),
);
const block = fc
  .tuple(address, fc.constantFrom(0, 7, 15, 16, 24, 25, 32))
  .map(([text, bits]) => parseAddressRange(`${text}/${bits}`)!);
const time = fc.constantFrom(1, 2, 3).map((ms) => new Date(ms));
const scopes: fc.Arbitrary<Scope> = fc.record({
  methods: fc.array(pattern, { maxLength: 3 }),
  addresses: fc.array(block, { maxLength: 3 }),
  expiresAt: fc.option(time),
  canVerify: fc.boolean(),
});

function allows(
  { methods, addresses, expiresAt, canVerify }: Scope,
  call: { service: string; method: string; address: string; at: Date; verifies: boolean },
): boolean {
  return (
    (methods.length === 0 || matchesAny(methods, call.service, call.method)) &&
    (addresses.length === 0 || isInRanges(addresses, call.address)) &&
    (expiresAt === null || call.at < expiresAt) &&
    (canVerify || !call.verifies)
  );
}

const calls = fc.record({ service, method: names, address, at: time, verifies: fc.boolean() });

test("what lies within a limit allows no call that the limit refuses", () => {
  let within = 0;
  fc.assert(
    fc.property(scopes, scopes, fc.array(calls, { minLength: 5, maxLength: 20 }), (inner, outer, made) => {
      if (excessOf(inner, outer) !== undefined) return;
      within++;
      for (const call of made) assert.ok(!allows(inner, call) || allows(outer, call), JSON.stringify(call));
    }),
    { numRuns: 20_000 },
  );
  // Else this would have asked nothing.
  assert.ok(within > 500, `${within} lay within`);
});

test("a pattern is covered exactly by those that match a method which it alone is about", () => {
  /** A method that a pattern matches and that no pattern drawn here names for another reason. */
  const example = (text: string): [string, string] => {
    if (text === "*") return ["fresh", "fresh"];
    if (text.endsWith(".*")) return [`${text.slice(0, -1)}fresh`, "fresh"];
    const [name = "", method = ""] = text.split("/");
    return [name, method === "*" ? "fresh" : method];
  };
  fc.assert(
    fc.property(pattern, pattern, (outer, inner) => {
      assert.equal(coversPattern([outer], inner), matchesAny([outer], ...example(inner)));
    }),
    { numRuns: 5000 },
  );
});

test("every scope lies within itself and within what is unlimited", () => {
  fc.assert(
    fc.property(scopes, (any) => {
      assert.equal(excessOf(any, any), undefined);
      assert.equal(excessOf(any, unlimited), undefined);
    }),
  );
});
