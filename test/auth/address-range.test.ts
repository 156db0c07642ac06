/** Addresses and CIDR blocks, held against a reference that compares bit by bit. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatAddressRange,
  isInRanges,
  parseAddress,
  parseAddressRange,
  rangeCovers,
} from "../../src/auth/address-range.ts";

for (const [text, stored] of [
  ["203.0.113.0/24", "203.0.113.0/24"],
  ["203.0.113.7", "203.0.113.7/32"],
  ["203.0.113.7/32", "203.0.113.7/32"],
  ["203.0.113.7/24", "203.0.113.0/24"],
  ["203.0.113.255/25", "203.0.113.128/25"],
  ["255.255.255.255/1", "128.0.0.0/1"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["198.51.100.1/0", "0.0.0.0/0"],
  ["2001:db8::/32", "2001:db8::/32"],
  ["2001:DB8:0:0:0:0:0:7", "2001:db8::7/128"],
  ["2001:db8:ffff::7/33", "2001:db8:8000::/33"],
  ["::1", "::1/128"],
  ["::/0", "::/0"],
  // IPv4, written as IPv6.
  ["::ffff:192.0.2.1", "192.0.2.1/32"],
  ["::ffff:c000:201/128", "192.0.2.1/32"],
  ["::ffff:192.0.2.1/120", "192.0.2.0/24"],
  ["::ffff:0:0/96", "0.0.0.0/0"],
  // More than IPv4, and so a block of IPv6.
  ["::ffff:192.0.2.1/95", "::fffe:0:0/95"],
  // IPv6 that only looks like IPv4.
  ["::192.0.2.1", "::c000:201/128"],
  ["64:ff9b::192.0.2.1", "64:ff9b::c000:201/128"],
] as const) {
  test(`the block ${text} is ${stored}`, () => {
    const range = parseAddressRange(text);
    assert.ok(range);
    assert.equal(formatAddressRange(range), stored);
    assert.deepEqual(parseAddressRange(stored), range, "what is stored is read as the same block");
  });
}

for (const text of [
  "",
  "/",
  "/24",
  "localhost",
  "1.2.3",
  "1.2.3.4.5",
  "1.2.3.256",
  "1.2.3.04",
  "010.0.0.1",
  "0x7f.0.0.1",
  "2130706433",
  "127.1",
  "1.2.3.4/",
  "1.2.3.4/33",
  "1.2.3.4/-1",
  "1.2.3.4/08",
  "1.2.3.4/8/8",
  "1.2.3.4/255.0.0.0",
  "1.2.3.4/ 8",
  " 1.2.3.4",
  "1.2.3.4 ",
  "1.2.3.4:80",
  "2001:db8::/129",
  "2001:db8::1::2",
  "2001:db8:0:0:0:0:0:0:7",
  "2001:db8:::7",
  ":::",
  "2001:db8::g",
  "[::1]",
  "fe80::1%eth0",
  "fe80::1%eth0/64",
  "::ffff:1.2.3",
  "::ffff:010.0.0.1",
  "::ffff:0x7f.0.0.1",
  "*",
]) {
  test(`${JSON.stringify(text)} is no block, and nothing lies in it`, () => {
    assert.equal(parseAddressRange(text), undefined);
    if (!text.includes("/")) {
      assert.equal(parseAddress(text), undefined);
      assert.equal(isInRanges([parseAddressRange("0.0.0.0/0")!, parseAddressRange("::/0")!], text), false);
    }
  });
}

for (const [text, one] of [
  ["203.0.113.7", "203.0.113.7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["::FFFF:cb00:7107", "203.0.113.7"],
  ["2001:0DB8::0007", "2001:db8::7"],
  ["::1", "::1"],
  ["::203.0.113.7", "::cb00:7107"],
] as const) {
  test(`the address ${text} is ${one}`, () => assert.equal(parseAddress(text), one));
}

test("nothing lies in no block", () => assert.equal(isInRanges([], "127.0.0.1"), false));

test("an address lies in blocks when it lies in any of them", () => {
  const ranges = ["10.0.0.0/8", "2001:db8::/32"].map((text) => parseAddressRange(text)!);
  for (const [address, inside] of [
    ["10.255.0.1", true],
    ["11.0.0.0", false],
    ["2001:db8:ffff::", true],
    ["2001:db9::", false],
    ["::ffff:10.0.0.1", true],
  ] as const) {
    assert.equal(isInRanges(ranges, address), inside, address);
  }
});

/** An address as its bits, the first one first: 32 or 128 of them. */
type Bits = string;

const bitsOf = (bytes: readonly number[]): Bits =>
  bytes.map((byte) => byte.toString(2).padStart(8, "0")).join("");
const mapped = bitsOf([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
const bytesOf = (bits: Bits) => (bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2));

/** An address written in one of the ways that there are. */
function write(bits: Bits, style: number): string {
  const bytes = bytesOf(bits);
  if (bits.length === 32) {
    const dotted = bytes.join(".");
    return style % 3 === 2 ? `::ffff:${dotted}` : dotted;
  }
  const groups = (bits.match(/.{16}/g) ?? []).map((group) => Number.parseInt(group, 2).toString(16));
  switch (style) {
    case 0:
      return groups.join(":");
    case 1:
      return groups.map((group) => group.padStart(4, "0").toUpperCase()).join(":");
    case 2:
      return `${groups.slice(0, 6).join(":")}:${bytes.slice(12).join(".")}`;
    default: {
      // The first longest run of zeros as "::".
      const runs = [...`${groups.join(":")}:`.matchAll(/(?<![0-9a-f])(?:0:){2,}/g)];
      const longest = runs.sort((a, b) => b[0].length - a[0].length)[0];
      if (longest === undefined) return groups.join(":");
      const text = `${groups.join(":")}:`;
      const tail = text.slice(longest.index + longest[0].length).replace(/:$/, "");
      return `${text.slice(0, longest.index).replace(/:$/, "")}::${tail}`;
    }
  }
}

/** What the bits come to once IPv4 in IPv6's clothes is IPv4. */
function plainBlock(bits: Bits, length: number): { bits: Bits; length: number } {
  if (bits.length === 128 && bits.startsWith(mapped) && length >= 96) {
    return { bits: bits.slice(96), length: length - 96 };
  }
  return { bits, length };
}

function contains(block: { bits: Bits; length: number }, address: Bits): boolean {
  return (
    block.bits.length === address.length &&
    block.bits.slice(0, block.length) === address.slice(0, block.length)
  );
}

const bytes = (least: number) =>
  fc.array(fc.integer({ min: 0, max: 255 }), { minLength: least, maxLength: least });
const address: fc.Arbitrary<Bits> = fc.oneof(
  bytes(4).map(bitsOf),
  bytes(16).map(bitsOf),
  // With zeros to be left out, and of IPv4.
  fc.tuple(bytes(2), bytes(2)).map(([a, b]) => bitsOf([...a, ...Array(12).fill(0), ...b])),
  bytes(4).map((last) => mapped + bitsOf(last)),
  bytes(4).map((last) => "0".repeat(96) + bitsOf(last)),
);
const style = fc.integer({ min: 0, max: 3 });

/** A block, and an address that is likely to lie on its edge. */
const question = fc
  .tuple(address, fc.double({ min: 0, max: 1, noNaN: true }), fc.option(fc.nat(127)), address)
  .map(([network, part, flip, other]) => {
    const length = Math.round(part * network.length);
    if (flip === null) return { network, length, asked: other };
    const at = flip % network.length;
    const flipped = `${network.slice(0, at)}${network[at] === "0" ? "1" : "0"}${network.slice(at + 1)}`;
    return { network, length, asked: flipped };
  });

test("an address lies in a block exactly when its first bits are the block's, however both are written", () => {
  let inside = 0;
  fc.assert(
    fc.property(question, style, style, ({ network, length, asked }, one, other) => {
      const range = parseAddressRange(`${write(network, one)}/${lengthAsWritten(network, one, length)}`);
      assert.ok(range, `${write(network, one)}/${length} is read`);
      const expected = contains(plainBlock(network, length), plainBlock(asked, asked.length).bits);
      if (expected) inside++;
      assert.equal(isInRanges([range], write(asked, other)), expected);
    }),
    { numRuns: 5000 },
  );
  assert.ok(inside > 500 && inside < 4500, `${inside} of 5000 lie inside: both cases are seen`);
});

test("one block covers another exactly when every address of the other lies in it", () => {
  fc.assert(
    fc.property(question, fc.double({ min: 0, max: 1, noNaN: true }), ({ network, length, asked }, part) => {
      const innerLength = Math.round(part * asked.length);
      const outer = plainBlock(network, length);
      const inner = plainBlock(asked, innerLength);
      const expected = inner.length >= outer.length && contains(outer, inner.bits);
      const read = (bits: Bits, n: number) => parseAddressRange(`${write(bits, 0)}/${n}`)!;
      assert.equal(rangeCovers(read(network, length), read(asked, innerLength)), expected);
    }),
    { numRuns: 5000 },
  );
});

test("a block and an address are stored in a form that is read as the same", () => {
  fc.assert(
    fc.property(question, style, ({ network, length }, how) => {
      const range = parseAddressRange(`${write(network, how)}/${lengthAsWritten(network, how, length)}`)!;
      const block = plainBlock(network, length);
      const cleared = block.bits.slice(0, block.length).padEnd(block.bits.length, "0");
      assert.deepEqual(parseAddressRange(formatAddressRange(range)), range);
      assert.deepEqual(range.network.toByteArray(), bytesOf(cleared));
      const one = parseAddress(write(network, how));
      assert.ok(one);
      assert.equal(parseAddress(one), one);
    }),
    { numRuns: 2000 },
  );
});

/** IPv4 that is written as IPv6 has 96 bits before its own. */
function lengthAsWritten(network: Bits, how: number, length: number): number {
  return network.length === 32 && how % 3 === 2 ? length + 96 : length;
}
