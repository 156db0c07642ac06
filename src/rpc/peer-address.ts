/** Whose request it is, as the request log has it. */
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import proxyAddr from "@fastify/proxy-addr";

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
    return isIP(said) === 0 ? own : said;
  };
}

/** IPv4 that came in over IPv6 as IPv4; without the zone of a link-local address and the port that some proxies add. */
function plain(address: string): string {
  if (/^\d+(?:\.\d+){3}$/.test(address)) return address;
  return address
    .replace(/^(\d+(?:\.\d+){3}):\d+$|^\[(.+)\](?::\d+)?$/, "$1$2")
    .replace(/^::ffff:(?=\d+\.)/i, "")
    .replace(/%.*$/, "");
}
