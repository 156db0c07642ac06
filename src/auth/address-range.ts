/** The addresses that an API key may be used from: CIDR blocks, IPv4 and IPv6 (RFC 4632, RFC 4291). */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** A CIDR block. */
export interface AddressRange {
  readonly network: Address;
  readonly bits: number;
}

/**
 * Reads a CIDR block, or a single address as the block of itself; undefined for
 * what is neither. Bits behind the prefix are cleared, and IPv4 that is written as
 * IPv6 (::ffff:192.0.2.1) is IPv4, as the peer's address is.
 */
export function parseAddressRange(text: string): AddressRange | undefined {
  const [address = "", prefix, ...rest] = text.split("/");
  const given = rest.length > 0 ? undefined : read(address);
  if (given === undefined) return undefined;
  const width = given.kind() === "ipv4" ? 32 : 128;
  const bits = prefix === undefined ? width : readBits(prefix, width);
  if (bits === undefined) return undefined;
  if (given instanceof ipaddr.IPv6 && given.isIPv4MappedAddress() && bits >= 96) {
    return range(given.toIPv4Address(), bits - 96);
  }
  return range(given, bits);
}

/** The block as it is stored and shown: "203.0.113.0/24". */
export function formatAddressRange({ network, bits }: AddressRange): string {
  return `${network.toString()}/${bits}`;
}

/**
 * An IP address in the one form that it is compared and stored in: IPv4 that is
 * written as IPv6 is IPv4. Undefined for what is no address.
 */
export function parseAddress(text: string): string | undefined {
  const address = read(text);
  return address && unmap(address).toString();
}

/** Without the port, and an IPv6 address' brackets, that some proxies add. */
export function withoutPort(text: string): string {
  return text.replace(/^(\d+(?:\.\d+){3}):\d+$|^\[(.+)\](?::\d+)?$/, "$1$2");
}

/** Whether an IP address lies in one of the blocks. False for what is no address. */
export function isInRanges(ranges: readonly AddressRange[], address: string): boolean {
  const given = read(address);
  if (given === undefined) return false;
  const plain = unmap(given);
  return ranges.some(({ network, bits }) => matches(plain, network, bits));
}

/** Whether one block lies within another. */
export function rangeCovers(outer: AddressRange, inner: AddressRange): boolean {
  return outer.bits <= inner.bits && matches(inner.network, outer.network, outer.bits);
}

/** Strict: "1.2.3", "0x7f.1" and what has a zone are no addresses here, though some programs take them for one. */
function read(text: string): Address | undefined {
  if (isIP(text) === 0 || text.includes("%")) return undefined;
  // ipaddr.js takes ::192.0.2.1, which RFC 4291 (2.5.5.1) has as an IPv6 address, for the IPv4 one.
  return ipaddr.parse(text.replace(/^::(?=\d+\.)/, "::0:"));
}

function unmap(address: Address): Address {
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}

function readBits(text: string, width: number): number | undefined {
  return /^(0|[1-9]\d{0,2})$/.test(text) && Number(text) <= width ? Number(text) : undefined;
}

function range(address: Address, bits: number): AddressRange {
  const width = address.kind() === "ipv4" ? 4 : 16;
  const bytes = address
    .toByteArray()
    .map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff);
  return { network: ipaddr.fromByteArray(bytes.slice(0, width)), bits };
}

function matches(address: Address, network: Address, bits: number): boolean {
  return address.kind() === network.kind() && address.match(network as never, bits);
}
