/** Whose request it is, as the request log has it. */
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import proxyAddr from "@fastify/proxy-addr";
import { withoutPort } from "../auth/address-range.ts";
import { compactText } from "../compact.ts";

/** What a request of Node, Fastify or Express says of its sender. */
export interface PeerRequest {
  /** As the host's own trust in proxies has it. */
  readonly ip?: string | undefined;
  /** What the request came over. */
  readonly socket: {
    /** Of the other end. */
    readonly remoteAddress?: string | undefined;
  };
}

/** The address of a request on a host that is none of ours; undefined where it is not known. */
export function peerAddressOf(req: PeerRequest): string | undefined {
  const said = plain(req.ip ?? "");
  const address = isIP(said) === 0 ? plain(req.socket.remoteAddress ?? "") : said;
  return address || undefined;
}

/** Says where a request came from: from the address of its socket and its headers. */
export type PeerAddress = (socketAddress: string | undefined, headers: IncomingHttpHeaders) => string;

/**
 * Creates what tells the address of a request's peer: the socket's, or what a trusted proxy
 * says that it is in `x-forwarded-for`. A forwarded text that is no address is not believed:
 * Postgres would refuse it, and with it every row of its batch.
 */
export function createPeerAddress(trustedProxies: readonly string[]): PeerAddress {
  if (trustedProxies.length === 0) return (socketAddress) => plain(socketAddress ?? "");
  const trust = proxyAddr.compile([...trustedProxies]);
  return (socketAddress, headers) => {
    const own = plain(socketAddress ?? "");
    if (headers["x-forwarded-for"] === undefined) return own;
    const request = {
      headers,
      socket: { remoteAddress: socketAddress },
      connection: { remoteAddress: socketAddress },
    };
    const said = plain(proxyAddr(request as Parameters<typeof proxyAddr>[0], trust));
    return isIP(said) === 0 ? own : compactText(said);
  };
}

/** IPv4 that came in over IPv6 as IPv4; without the zone of a link-local address and the port that some proxies add. */
function plain(address: string): string {
  if (/^\d+(?:\.\d+){3}$/.test(address)) return address;
  return withoutPort(address)
    .replace(/^::ffff:(?=\d+\.)/i, "")
    .replace(/%.*$/, "");
}
