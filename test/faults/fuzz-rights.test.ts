/** A pattern or an address block never covers more than a second reading of it says, whatever is written there. */
import assert from "node:assert/strict";
import { BlockList, isIP, isIPv4 } from "node:net";
import { test } from "node:test";
import {
  formatAddressRange,
  isInRanges,
  parseAddress,
  parseAddressRange,
} from "../../src/auth/address-range.ts";
import { matchesAny } from "../../src/auth/method-pattern.ts";
import { createPeerAddress } from "../../src/rpc/peer-address.ts";
import { checkMutants, mutate, pick } from "./fuzz.ts";

const patterns = [
  "*",
  "api.users.*",
  "api.users.UserService/*",
  "api.users.UserService/GetUser",
  "Greeter/*",
  "a.b.c.D/E",
  "api.*",
  "/*",
  ".*",
];
const methods = [
  ["api.users.UserService", "GetUser"],
  ["api.usersadmin.UserService", "GetUser"],
  ["api.users", "GetUser"],
  ["Greeter", "Greet"],
  ["a.b.c.D", "E"],
] as const;

/** The rule part by part: all of a name's parts are those of the pattern, which may leave off its end at a star. */
function coversByTheBook(pattern: string, service: string, method: string): boolean {
  const parts = pattern.split(/([./])/);
  if (parts.at(-1) !== "*") return pattern === `${service}/${method}`;
  if (parts.length === 1) return true;
  const name = `${service}/${method}`.split(/([./])/);
  const fixed = parts.slice(0, -1);
  // "a.*" reaches into what is below a; "a.B/*" is the methods of a.B, and no method has a part below it.
  const reachesMethod = name.length === fixed.length + 1;
  const kept = fixed.every((part, i) => part === name[i]);
  return kept && (fixed.at(-1) === "/" ? reachesMethod : service.length >= pattern.length - 1);
}

test("a pattern covers the methods that its parts say, and no others", (t) => {
  let covered = 0;
  checkMutants(t, 250_000, patterns, (pattern, random) => {
    const [service, method] = pick(random, methods);
    const covers = matchesAny([pattern], service, method);
    if (covers) covered++;
    assert.equal(covers, coversByTheBook(pattern, service, method), `${service}/${method}`);
  });
  t.diagnostic(`${covered} covered their method`);
  assert.ok(covered > 0);
});

const addresses = [
  "203.0.113.7",
  "203.0.113.0/24",
  "10.0.0.0/8",
  "0.0.0.0/0",
  "127.0.0.1:443",
  "::1",
  "::/0",
  "2001:db8::/32",
  "2001:db8::7",
  "[2001:db8::7]:443",
  "::ffff:203.0.113.7",
  "::ffff:203.0.113.0/120",
  "::203.0.113.7",
  "64:ff9b::192.0.2.1",
  "fe80::1%eth0",
  "010.0.0.1",
  "0x7f.1",
];

/** Node's own list of blocks, which knows nothing of ours. */
function inBlockByTheBook(text: string, address: string): boolean {
  const [network = "", bits] = text.split("/");
  const mapped = /^(?:0*:)*:?ffff:/i.test(network);
  const family = isIPv4(network) ? "ipv4" : "ipv6";
  const list = new BlockList();
  list.addSubnet(network, Number(bits ?? (family === "ipv4" ? 32 : 128)), family);
  // IPv4 that is written as IPv6 is IPv4, on either side.
  return list.check(address, isIPv4(address) ? "ipv4" : "ipv6") || (mapped && list.check(address, "ipv6"));
}

test("an address block covers the addresses that Node's own does, and no others", (t) => {
  let blocks = 0;
  checkMutants(t, 120_000, addresses, (text, random) => {
    const range = parseAddressRange(text);
    if (range === undefined) return;
    blocks++;
    assert.notEqual(isIP(text.split("/")[0] ?? ""), 0, "what is no address is read as one");
    assert.deepEqual(parseAddressRange(formatAddressRange(range)), range);
    const address = parseAddress(mutate(random, pick(random, addresses), addresses)) ?? "203.0.113.9";
    if (isInRanges([range], address)) assert.ok(inBlockByTheBook(text, address), `covers ${address}`);
  });
  t.diagnostic(`${blocks} were blocks`);
  assert.ok(blocks > 1000);
});

test("whoever is said to have forwarded a request, its peer's address is an address", (t) => {
  const peerAddress = createPeerAddress(["127.0.0.1"]);
  checkMutants(t, 120_000, addresses, (said) => {
    const peer = peerAddress("::ffff:127.0.0.1", { "x-forwarded-for": said });
    assert.notEqual(isIP(peer), 0, peer);
    assert.doesNotMatch(peer, /%/, "Postgres takes no zones");
    assert.ok(peer === "127.0.0.1" || said.toLowerCase().includes(peer.toLowerCase()));
  });
});
