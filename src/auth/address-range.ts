/** The addresses that an API key may be used from: CIDR blocks, IPv4 and IPv6 (RFC 4632, RFC 4291). */
import ipaddr from "ipaddr.js";

/** A CIDR block. */
export interface AddressRange {
  readonly network: ipaddr.IPv4 | ipaddr.IPv6;
  readonly bits: number;
}

/**
 * Reads a CIDR block, or a single address as the block of itself; undefined for
 * what is neither. Bits behind the prefix are cleared, and IPv4 that is written as
 * IPv6 (::ffff:192.0.2.1) is IPv4, as the peer's address is.
 */
export function parseAddressRange(text: string): AddressRange | undefined {
  const [address = "", prefix, ...rest] = text.split("/");
  if (rest.length > 0 || !isAddress(address)) return undefined;
  const given = ipaddr.parse(address);
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

/** Whether an IP address lies in one of the blocks. False for what is no address. */
export function isInRanges(ranges: readonly AddressRange[], address: string): boolean {
  if (!isAddress(address)) return false;
  const parsed = ipaddr.process(address);
  return ranges.some(({ network, bits }) => matches(parsed, network, bits));
}

/** Whether one block lies within another. */
export function rangeCovers(outer: AddressRange, inner: AddressRange): boolean {
  return outer.bits <= inner.bits && matches(inner.network, outer.network, outer.bits);
}

/** Strict: "1.2.3" and "0x7f.1" are no addresses here, though some programs take them for one. */
function isAddress(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || (!text.includes("%") && ipaddr.IPv6.isValid(text));
}

function readBits(text: string, width: number): number | undefined {
  return /^(0|[1-9]\d{0,2})$/.test(text) && Number(text) <= width ? Number(text) : undefined;
}

function range(address: ipaddr.IPv4 | ipaddr.IPv6, bits: number): AddressRange {
  const width = address.kind() === "ipv4" ? 4 : 16;
  const bytes = address
    .toByteArray()
    .map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff);
  return { network: ipaddr.fromByteArray(bytes.slice(0, width)), bits };
}

function matches(
  address: ipaddr.IPv4 | ipaddr.IPv6,
  network: ipaddr.IPv4 | ipaddr.IPv6,
  bits: number,
): boolean {
  return address.kind() === network.kind() && address.match(network as never, bits);
}
